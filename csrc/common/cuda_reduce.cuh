// Reductions over the threads of a warp, each thread ending with the result. Device code only.
#pragma once

namespace stk {

constexpr unsigned kAll = 0xffffffffu;  // every lane of a warp

template <typename T>
__device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
  for (int step = 16; step > 0; step >>= 1) value += __shfl_xor_sync(kAll, value, step);
  return value;
}

template <typename T>
__device__ __forceinline__ T warp_max(T value) {
#pragma unroll
  for (int step = 16; step > 0; step >>= 1) {
    const T other = __shfl_xor_sync(kAll, value, step);
    value = other > value ? other : value;
  }
  return value;
}

// The largest value and its lowest index; the index it began with where nothing compares greater than
// -inf, as NaN does not.
struct Best {
  float value;
  int index;

  __device__ __forceinline__ void take(float other, int at) {
    if (other > value || (other == value && at < index)) {
      value = other;
      index = at;
    }
  }
};

__device__ __forceinline__ Best warp_best(Best best) {
#pragma unroll
  for (int step = 16; step > 0; step >>= 1) {
    const float value = __shfl_xor_sync(kAll, best.value, step);
    const int index = __shfl_xor_sync(kAll, best.index, step);
    best.take(value, index);
  }
  return best;
}

}  // namespace stk
