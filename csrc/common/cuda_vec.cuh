// Loads and stores of 16 bytes at a time in fp32, whatever the dtype in memory. Device code only.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "common/dtype.h"

namespace stk {

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(__half x) { return __half2float(x); }
__device__ __forceinline__ float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }

template <typename T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ float from_float<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ __half from_float<__half>(float x) {
  return __float2half_rn(x);
}
template <>
__device__ __forceinline__ __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

template <typename T, int N>
struct alignas(sizeof(T) * N) Vec {
  T x[N];
};

template <int N, typename T>
__device__ __forceinline__ void load_vec(const T* from, float (&to)[N]) {
  const Vec<T, N> value = *reinterpret_cast<const Vec<T, N>*>(from);
#pragma unroll
  for (int i = 0; i < N; ++i) to[i] = to_float(value.x[i]);
}

template <int N, typename T>
__device__ __forceinline__ void store_vec(T* to, const float (&from)[N]) {
  Vec<T, N> value;
#pragma unroll
  for (int i = 0; i < N; ++i) value.x[i] = from_float<T>(from[i]);
  *reinterpret_cast<Vec<T, N>*>(to) = value;
}

// Whether `pointer` may be read in pieces of `bytes`. Host code.
inline bool aligned(const void* pointer, int bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
}

// Calls work(T{}) with the type that `dtype` names.
template <typename Work>
auto with_dtype(Dtype dtype, const Work& work) {
  if (dtype == Dtype::fp16) return work(__half{});
  if (dtype == Dtype::bf16) return work(__nv_bfloat16{});
  return work(float{});
}

}  // namespace stk
