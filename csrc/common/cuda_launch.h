// What every <op>_cuda.cpp does around a launch. Host code with torch's light CUDA headers only; the .cu
// files see raw pointers and a cudaStream_t. Kernels return cudaGetLastError() from their launcher.
#pragma once

#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include "common/checks.h"
#include "common/dtype.h"

namespace stk {

// A call is sent to CUDA by any argument that is there: `tensor`, whose device counts, has to be too.
inline void check_on_cuda(const char* op, const char* name, const at::Tensor& tensor) {
  TORCH_CHECK_VALUE(tensor.is_cuda(), op, ": ", name, " is on ", tensor.device(),
                    " but another argument is on a CUDA device");
}

// Dtype of a floating tensor for a launcher; fp64 is refused.
inline Dtype dtype_of(const char* op, const char* name, const at::Tensor& tensor) {
  check_dtype(op, name, tensor, tensor.scalar_type() != at::kDouble,
              "fp32, fp16 or bf16 on CUDA (the reference takes fp64)");
  return tensor.scalar_type() == at::kHalf       ? Dtype::fp16
         : tensor.scalar_type() == at::kBFloat16 ? Dtype::bf16
                                                 : Dtype::fp32;
}

// Fails where `launched`, the status a launcher returned, is an error.
inline void check_launch(const char* op, cudaError_t launched) {
  TORCH_CHECK(launched == cudaSuccess, op, ": the CUDA kernel was not launched: ",
              cudaGetErrorString(launched));
}

// Current stream of the device of `tensor`.
inline cudaStream_t stream_of(const at::Tensor& tensor) {
  return c10::cuda::getCurrentCUDAStream(tensor.device().index()).stream();
}

}  // namespace stk
