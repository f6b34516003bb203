// What the forward and backward kernels of prefix attention share: asynchronous copies of tiles, the
// prefix rule, dropout's bits and the way back to memory. Device code only.
#pragma once

#include <cstdint>
#include <type_traits>

#include "attention/attention.h"
#include "attention/attention_mma.cuh"
#include "common/philox.h"

namespace stk::prefix_attention {

constexpr float kLog2E = 1.4426950408889634f;

__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Starts the copy of 16 bytes to shared memory; zeros are written where `real` is false.
__device__ __forceinline__ void copy_16(void* to, const void* from, bool real) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
               "r"(real ? 16 : 0)
               : "memory");
}

__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most `pending` of the groups that this thread committed are under way.
template <int pending>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

template <typename T>
__device__ __forceinline__ T* head_of(const Rows& rows, int b, int h) {
  return static_cast<T*>(rows.data) + b * rows.batch + h * rows.head;
}

// Starts the copy of rows first to first + kCount - 1 of a head; rows from `limit` on, and columns from
// `width` on, become zero and are not read.
template <typename T, int D, int kCount, int kThreads>
__device__ __forceinline__ void copy_tile(T* tile, const T* head, int64_t stride, int first, int limit,
                                          int width) {
  constexpr int kVector = 16 / sizeof(T), kChunks = D / kVector;
#pragma unroll
  for (int i = threadIdx.x; i < kCount * kChunks; i += kThreads) {
    const int r = i / kChunks, c = i % kChunks * kVector;
    const bool real = first + r < limit && c < width;
    copy_16(tile + r * kPitch<T, D> + c, real ? head + (first + r) * stride + c : head, real);
  }
}

// Keys that query i of row b sees, in 0..Tk whatever the tensors hold; 0 for padded queries.
__device__ __forceinline__ int real_queries(const CudaShape& s, int b) {
  if (s.query_lengths == nullptr) return s.query_count;
  const int64_t length = s.query_lengths[b];
  return static_cast<int>(length < 0 ? 0 : length > s.query_count ? s.query_count : length);
}

__device__ __forceinline__ int visible_keys(const CudaShape& s, int b, int i, int real) {
  if (i >= real) return 0;
  if (s.visible == nullptr) return s.key_count;
  const int64_t count = s.visible[b * s.visible_batch + i * s.visible_query];
  return static_cast<int>(count < 0 ? 0 : count > s.key_count ? s.key_count : count);
}

// Largest and smallest count of the kRows queries from `first` on. Every thread of the block calls it;
// `scratch` is shared memory of two integers per warp.
template <int kRows, int kThreads>
__device__ __forceinline__ int2 seen_range(const CudaShape& s, int b, int first, int real, int* scratch) {
  int most = 0, least = s.key_count;
  for (int r = threadIdx.x; r < kRows; r += kThreads) {
    const int count = visible_keys(s, b, first + r, real);
    most = max(most, count);
    least = min(least, count);
  }
  most = __reduce_max_sync(0xffffffffu, most);
  least = __reduce_min_sync(0xffffffffu, least);
  constexpr int kWarps = kThreads / 32;
  if (threadIdx.x % 32 == 0) {
    scratch[threadIdx.x / 32] = most;
    scratch[kWarps + threadIdx.x / 32] = least;
  }
  __syncthreads();
#pragma unroll
  for (int w = 0; w < kWarps; ++w) {
    most = max(most, scratch[w]);
    least = min(least, scratch[kWarps + w]);
  }
  return {most, least};
}

struct DropoutBits {
  uint64_t key, stream, groups;  // groups: of one row of weights
  uint32_t threshold;

  __device__ explicit DropoutBits(const CudaShape& s)
      : key(s.seed.key()),
        stream(s.seed.stream()),
        groups((static_cast<uint32_t>(s.key_count) + 3) / 4),
        threshold(s.threshold) {}

  // Accumulator tile with queries as rows. `row` is that of c[0], (b * H + h) * Tq + i; `column` the key
  // of the tile's first column, a multiple of 8. Bit e says whether c[e] is kept.
  __device__ __forceinline__ uint32_t keep_queries(uint64_t row, int column, int lane) const {
    // Two neighbours hold the four keys of a group in rows g and g + 8: each draws for one of the rows.
    const bool odd = lane & 1;
    const uint64_t group = (row + (odd ? 8 : 0)) * groups + (column + 2 * (lane & 2)) / 4;
    const Philox4 w = philox(key, stream, group);
    const uint32_t first = __shfl_xor_sync(0xffffffffu, odd ? w.x[0] : w.x[2], 1);
    const uint32_t second = __shfl_xor_sync(0xffffffffu, odd ? w.x[1] : w.x[3], 1);
    const uint32_t c0 = odd ? first : w.x[0], c1 = odd ? second : w.x[1];
    const uint32_t c2 = odd ? w.x[2] : first, c3 = odd ? w.x[3] : second;
    return (c0 >= threshold) | (c1 >= threshold) << 1 | (c2 >= threshold) << 2 | (c3 >= threshold) << 3;
  }

  // Accumulator tile with keys as rows. `row` is that of the tile's first query (column 0), `key0` the
  // key of the tile's first row, a multiple of 16.
  __device__ __forceinline__ uint32_t keep_keys(uint64_t row, int key0, int lane) const {
    // The four lanes of keys 4a to 4a + 3 need the same four groups (queries 2t and 2t + 1, keys of rows
    // g and g + 8): each draws one, and then they exchange words.
    const int mine = (lane >> 2) & 3;
    const uint64_t query = row + 2 * (lane & 3) + (mine & 1);
    const int first_key = key0 + (lane >> 4) * 4 + (mine & 2) * 4;
    const Philox4 w = philox(key, stream, query * groups + first_key / 4);
    uint32_t kept = 0;
#pragma unroll
    for (int round = 0; round < 4; ++round) {
      // To lane ^ (round * 4), whose number among the four is mine ^ round, goes its word.
      const int wanted = mine ^ round;
      const uint32_t low = wanted & 1 ? w.x[1] : w.x[0], high = wanted & 1 ? w.x[3] : w.x[2];
      const uint32_t word = __shfl_xor_sync(0xffffffffu, wanted & 2 ? high : low, round * 4);
      kept |= static_cast<uint32_t>(word >= threshold) << wanted;
    }
    return kept;
  }
};

// Writes accumulators times a factor per row (factor[m][0] for row g, [1] for row g + 8) as rows
// first + .. of a head, up to `limit` rows and `width` columns, by way of `tile`: shared memory that this
// warp alone uses, with MT * 16 rows.
template <typename T, int D, int MT>
__device__ __forceinline__ void store_rows(const float (&acc)[MT][D / 8][4], const float (&factor)[MT][2],
                                           T* tile, T* head, int64_t stride, int first, int limit,
                                           int width, int lane) {
  constexpr int P = kPitch<T, D>;
  __syncwarp();
#pragma unroll
  for (int m = 0; m < MT; ++m) {
#pragma unroll
    for (int n = 0; n < D / 8; ++n) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        T* to = tile + (16 * m + 8 * half + (lane >> 2)) * P + 8 * n + 2 * (lane & 3);
        // Zero stays zero, whatever a hidden row met.
        const bool zero = factor[m][half] == 0.0f;
        const float low = zero ? 0.0f : acc[m][n][2 * half] * factor[m][half];
        const float high = zero ? 0.0f : acc[m][n][2 * half + 1] * factor[m][half];
        if constexpr (sizeof(T) == 4) {
          *reinterpret_cast<float2*>(to) = make_float2(low, high);
        } else {
          *reinterpret_cast<uint32_t*>(to) = pack<T>(low, high);
        }
      }
    }
  }
  __syncwarp();
  constexpr int kVector = 16 / sizeof(T), kChunks = D / kVector;
#pragma unroll
  for (int i = lane; i < MT * 16 * kChunks; i += 32) {
    const int r = i / kChunks, c = i % kChunks * kVector;
    if (first + r < limit && c < width) {
      *reinterpret_cast<uint4*>(head + (first + r) * stride + c) =
          *reinterpret_cast<const uint4*>(tile + r * P + c);
    }
  }
}

// Calls function(Type{}, width constant) for the element type and the padded head size of a problem.
template <typename Function>
cudaError_t with_types(Element element, int width, const Function& function) {
  const auto sized = [&](auto type) {
    if (width <= 32) return function(type, std::integral_constant<int, 32>{});
    if (width <= 64) return function(type, std::integral_constant<int, 64>{});
    return function(type, std::integral_constant<int, 128>{});
  };
  if (element == Element::kHalf) return sized(__half{});
  if (element == Element::kBFloat16) return sized(__nv_bfloat16{});
  return sized(float{});
}

// Raises the block's limit of shared memory where it needs more than the default, then launches.
template <typename Kernel, typename Problem>
cudaError_t launch(Kernel kernel, dim3 grid, int threads, int bytes, cudaStream_t stream,
                   const Problem& problem) {
  const cudaError_t raised =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (raised != cudaSuccess) return raised;
  kernel<<<grid, threads, bytes, stream>>>(problem);
  return cudaGetLastError();
}

}  // namespace stk::prefix_attention
