// What every <op>_cuda.cpp does around a launch. Host code with torch's light CUDA headers only; the .cu
// files see raw pointers and a cudaStream_t. Kernels return cudaGetLastError() from their launcher.
#pragma once

#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

namespace stk {

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
