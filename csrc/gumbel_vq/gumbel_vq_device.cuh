// Device code that the forward and backward kernels of gumbel_vq share: noise, and walking a line of
// logits in groups of four elements, the four words of one counter.
#pragma once

#include "common/cuda_reduce.cuh"
#include "common/cuda_vec.cuh"
#include "common/philox.h"
#include "gumbel_vq/gumbel_vq.h"

namespace stk {

// Standard Gumbel noise -log(-log u) from a word, 1 - u = rest = (word + 1/2) / 2^32. Near u = 1, where
// the noise is large, -log u comes from its series in `rest`, which is exact there.
__device__ __forceinline__ float gumbel(uint32_t word) {
  const float rest = (static_cast<float>(word) + 0.5f) * 0x1p-32f;
  const float u = (static_cast<float>(~word) + 0.5f) * 0x1p-32f;
  const float series =
      rest * (1.0f + rest * (0.5f + rest * (1.0f / 3 + rest * (0.25f + rest * 0.2f))));
  return -__logf(rest < 0.0625f ? series : -__logf(u));
}

// A line of `codes` logits whose first element has the overall index `begin`. Group k of the line holds
// the elements 4 * (begin / 4 + k) and on, so that groups meet counters; its ends may lie outside.
struct Line {
  int64_t begin;
  int skip;    // begin % 4: elements of group 0 that belong to the line before
  int codes;
  int groups;

  __device__ Line(int64_t line, int64_t codes_per_line)
      : begin(line * codes_per_line),
        skip(static_cast<int>(begin & 3)),
        codes(static_cast<int>(codes_per_line)),
        groups((skip + codes + 3) / 4) {}

  // Position in the line of element 0 of a group.
  __device__ __forceinline__ int at(int group) const { return 4 * group - skip; }
  __device__ __forceinline__ bool holds(int position) const {
    return position >= 0 && position < codes;
  }
  __device__ __forceinline__ void noise(uint64_t seed, uint64_t stream, int group,
                                        float (&to)[4]) const {
    const Philox4 words = philox(seed, stream, static_cast<uint64_t>(begin >> 2) + group);
#pragma unroll
    for (int i = 0; i < 4; ++i) to[i] = gumbel(words.x[i]);
  }
};

// Elements of a group; positions outside the line give `fill`. WHOLE: V and all pointers allow the
// group to be read at once.
template <bool WHOLE, typename T>
__device__ __forceinline__ void load_group(const T* line, const Line& where, int group, float fill,
                                           float (&to)[4]) {
  const int at = where.at(group);
  if constexpr (WHOLE) {
    load_vec<4>(line + at, to);
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      to[i] = where.holds(at + i) ? to_float(line[at + i]) : fill;
    }
  }
}

template <bool WHOLE, typename T>
__device__ __forceinline__ void store_group(T* line, const Line& where, int group,
                                            const float (&from)[4]) {
  const int at = where.at(group);
  if constexpr (WHOLE) {
    store_vec<4>(line + at, from);
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (where.holds(at + i)) line[at + i] = from_float<T>(from[i]);
    }
  }
}

// Logits of a group, bias included; -inf outside the line.
template <bool WHOLE, typename T>
__device__ __forceinline__ void load_logits(const T* line, const float* bias, const Line& where,
                                            int group, float (&to)[4]) {
  load_group<WHOLE>(line, where, group, -INFINITY, to);
  if (bias == nullptr) return;
  float extra[4];
  load_group<WHOLE>(bias, where, group, 0.0f, extra);
#pragma unroll
  for (int i = 0; i < 4; ++i) to[i] += extra[i];
}

// Sum of exp(x - top), joined from parts with different tops.
struct ExpSum {
  float top, sum;

  __device__ __forceinline__ void join(const ExpSum& other) {
    const float high = fmaxf(top, other.top);
    if (high == -INFINITY) return;
    sum = sum * __expf(top - high) + other.sum * __expf(other.top - high);
    top = high;
  }
  __device__ __forceinline__ void take(const float (&x)[4]) {
    const float high = fmaxf(fmaxf(x[0], x[1]), fmaxf(x[2], x[3]));
    if (high > top) {
      sum *= __expf(top - high);
      top = high;
    }
    if (top == -INFINITY) return;
#pragma unroll
    for (int i = 0; i < 4; ++i) sum += __expf(x[i] - top);
  }
};

__device__ __forceinline__ ExpSum warp_join(ExpSum part) {
#pragma unroll
  for (int step = 16; step > 0; step >>= 1) {
    const ExpSum other{__shfl_xor_sync(kAll, part.top, step),
                       __shfl_xor_sync(kAll, part.sum, step)};
    part.join(other);
  }
  return part;
}

}  // namespace stk
