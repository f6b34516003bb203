// Forward of prefix attention on CUDA (tiling after Dao, 2023, "FlashAttention-2").
//
// A block owns MT * 16 queries per warp of one head and walks over tiles of keys and values that arrive
// through two stages of asynchronous copies. It stops at the last key that any of its queries sees.
#include <algorithm>

#include "attention/attention_tiles.cuh"

namespace stk::prefix_attention {
namespace {

template <typename T, int D>
struct ForwardTile {
  static constexpr bool kNarrow = sizeof(T) == 2;
  static constexpr int kWarps = 4;
  static constexpr int kThreads = kWarps * 32;
  static constexpr int kTilesM = kNarrow ? 2 : 1;  // 16-row tiles of a warp
  static constexpr int kQueries = kWarps * kTilesM * 16;
  static constexpr int kKeys = kNarrow && D <= 64 ? 64 : 32;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
  static constexpr bool kQueriesInRegisters = kNarrow && D <= 32;  // at 64, sm_80 would spill
#else
  static constexpr bool kQueriesInRegisters = kNarrow && D <= 64;
#endif
  // Blocks per multiprocessor that registers must allow; 0: as the compiler sees fit, which for the
  // smallest fp32 tile is one register too few.
  static constexpr int kBlocks = !kNarrow && D <= 32 ? 4 : 0;
  static constexpr int kKeyTile = kKeys * kPitch<T, D>;
  static constexpr int kBytes = (kQueries * kPitch<T, D> + 4 * kKeyTile) * static_cast<int>(sizeof(T));
};

// Running maximum (of scores before scaling) and sum of each row, of this thread's columns.
template <int MT>
struct SoftmaxState {
  float highest[MT][2], total[MT][2];
};

// Scores become weights, and what was accumulated so far shrinks to the new maximum.
template <int MT, int NT, int N>
__device__ __forceinline__ void soften(float (&scores)[MT][NT][4], float (&output)[MT][N][4],
                                       SoftmaxState<MT>& state, float scale2) {
#pragma unroll
  for (int m = 0; m < MT; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float best = state.highest[m][half];
#pragma unroll
      for (int n = 0; n < NT; ++n) {
        best = fmaxf(best, fmaxf(scores[m][n][2 * half], scores[m][n][2 * half + 1]));
      }
      best = fmaxf(best, __shfl_xor_sync(0xffffffffu, best, 1));
      best = fmaxf(best, __shfl_xor_sync(0xffffffffu, best, 2));
      // A row that has seen nothing yet has no maximum to subtract.
      const float shift = best == -INFINITY ? 0.0f : best * scale2;
      const float shrink = exp2_fast(state.highest[m][half] * scale2 - shift);
      state.highest[m][half] = best;
      float sum = 0.0f;
#pragma unroll
      for (int n = 0; n < NT; ++n) {
#pragma unroll
        for (int e = 2 * half; e < 2 * half + 2; ++e) {
          scores[m][n][e] = exp2_fast(fmaf(scores[m][n][e], scale2, -shift));
          sum += scores[m][n][e];
        }
      }
      state.total[m][half] = state.total[m][half] * shrink + sum;
#pragma unroll
      for (int n = 0; n < N; ++n) {
        output[m][n][2 * half] *= shrink;
        output[m][n][2 * half + 1] *= shrink;
      }
    }
  }
}

// Hides what lies beyond each row's prefix; `key0` is the key of column 0.
template <int MT, int NT>
__device__ __forceinline__ void hide(float (&scores)[MT][NT][4], const int (&visible)[MT][2], int key0,
                                     int lane) {
#pragma unroll
  for (int m = 0; m < MT; ++m) {
#pragma unroll
    for (int n = 0; n < NT; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int key = key0 + 8 * n + 2 * (lane & 3) + (e & 1);
        if (key >= visible[m][e / 2]) scores[m][n][e] = -INFINITY;
      }
    }
  }
}

template <int MT, int NT>
__device__ __forceinline__ void drop(float (&weights)[MT][NT][4], const DropoutBits& bits, uint64_t row,
                                     int key0, float factor, int lane) {
#pragma unroll
  for (int m = 0; m < MT; ++m) {
#pragma unroll
    for (int n = 0; n < NT; ++n) {
      const uint32_t kept = bits.keep_queries(row + 16 * m, key0 + 8 * n, lane);
#pragma unroll
      for (int e = 0; e < 4; ++e) weights[m][n][e] = kept >> e & 1 ? weights[m][n][e] * factor : 0.0f;
    }
  }
}

template <typename T, int D>
__global__ void __launch_bounds__(ForwardTile<T, D>::kThreads, ForwardTile<T, D>::kBlocks)
    forward_kernel(const __grid_constant__ CudaForward p) {
  using Tile = ForwardTile<T, D>;
  constexpr int MT = Tile::kTilesM, NT = Tile::kKeys / 8, kSteps = D / kDepth<T>;
  extern __shared__ __align__(16) unsigned char memory[];
  __shared__ int scratch[2 * Tile::kWarps];
  T* queries = reinterpret_cast<T*>(memory);
  T* keys = queries + Tile::kQueries * kPitch<T, D>;
  T* values = keys + 2 * Tile::kKeyTile;

  const CudaShape& s = p.shape;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int h = blockIdx.y, b = blockIdx.z;
  // The last queries of a causal rule see most: their blocks start first.
  const int start = (gridDim.x - 1 - blockIdx.x) * Tile::kQueries;
  const int row0 = warp * MT * 16;
  const int real = real_queries(s, b);
  const int2 range = seen_range<Tile::kQueries, Tile::kThreads>(s, b, start, real, scratch);
  const int limit = range.x, tiles = (limit + Tile::kKeys - 1) / Tile::kKeys;

  const T* key_head = head_of<const T>(p.key, b, h);
  const T* value_head = head_of<const T>(p.value, b, h);
  const auto copy_keys = [&](int tile) {
    if (tile < tiles) {
      const int stage = tile % 2 * Tile::kKeyTile, first = tile * Tile::kKeys;
      copy_tile<T, D, Tile::kKeys, Tile::kThreads>(keys + stage, key_head, p.key.row, first, limit,
                                                   s.width);
      copy_tile<T, D, Tile::kKeys, Tile::kThreads>(values + stage, value_head, p.value.row, first, limit,
                                                   s.value_width);
    }
    commit_copies();
  };
  copy_tile<T, D, Tile::kQueries, Tile::kThreads>(queries, head_of<const T>(p.query, b, h), p.query.row,
                                                  start, limit > 0 ? real : 0, s.width);
  copy_keys(0);

  int visible[MT][2];
  SoftmaxState<MT> state;
  float output[MT][D / 8][4] = {};
#pragma unroll
  for (int m = 0; m < MT; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = start + row0 + 16 * m + 8 * half + (lane >> 2);
      visible[m][half] = visible_keys(s, b, row, real);
      state.highest[m][half] = -INFINITY;
      state.total[m][half] = 0.0f;
    }
  }
  const float scale2 = s.scale * kLog2E;
  const int64_t first_row = (static_cast<int64_t>(b) * s.heads + h) * s.query_count + start + row0;
  FragmentA query_fragments[MT][Tile::kQueriesInRegisters ? kSteps : 1];

  for (int tile = 0; tile < tiles; ++tile) {
    copy_keys(tile + 1);
    wait_copies<1>();
    __syncthreads();
    const T* tile_keys = keys + tile % 2 * Tile::kKeyTile;
    const T* tile_values = values + tile % 2 * Tile::kKeyTile;
    float scores[MT][NT][4] = {};
    if constexpr (Tile::kQueriesInRegisters) {
      if (tile == 0) {
#pragma unroll
        for (int m = 0; m < MT; ++m) {
#pragma unroll
          for (int k = 0; k < kSteps; ++k) {
            query_fragments[m][k] =
                load_a(queries, kPitch<T, D>, row0 + 16 * m, k * kDepth<T>, lane);
          }
        }
      }
      multiply_abt<T, D, MT, NT>(scores, query_fragments, tile_keys, 0, lane);
    } else {
      multiply_abt<T, D, MT, NT>(scores, queries, row0, tile_keys, 0, lane);
    }
    const int key0 = tile * Tile::kKeys;
    if (key0 + Tile::kKeys > range.y) hide<MT, NT>(scores, visible, key0, lane);
    soften<MT, NT>(scores, output, state, scale2);
    if (s.threshold > 0) {
      drop<MT, NT>(scores, DropoutBits(s), first_row + (lane >> 2), key0, s.factor, lane);
    }
    multiply_weights<T, D>(output, scores, tile_values, 0, lane);
    __syncthreads();
  }

  wait_copies<0>();
  __syncthreads();
  float factor[MT][2];
#pragma unroll
  for (int m = 0; m < MT; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float total = state.total[m][half];
      total += __shfl_xor_sync(0xffffffffu, total, 1);
      total += __shfl_xor_sync(0xffffffffu, total, 2);
      const bool blank = visible[m][half] == 0;
      factor[m][half] = blank ? 0.0f : 1.0f / total;
      const int row = 16 * m + 8 * half + (lane >> 2);
      if (lane % 4 == 0 && start + row0 + row < s.query_count) {
        p.logsumexp[first_row + row] =
            blank ? INFINITY : state.highest[m][half] * s.scale + logf(total);
      }
    }
  }
  store_rows<T, D, MT>(output, factor, queries + row0 * kPitch<T, D>, head_of<T>(p.output, b, h),
                       p.output.row, start + row0, s.query_count, s.value_width, lane);
}

template <typename T, int D>
cudaError_t run(const CudaForward& p, cudaStream_t stream) {
  using Tile = ForwardTile<T, D>;
  const dim3 grid((p.shape.query_count + Tile::kQueries - 1) / Tile::kQueries, p.shape.heads,
                  p.shape.batch);
  return launch(forward_kernel<T, D>, grid, Tile::kThreads, Tile::kBytes, stream, p);
}

}  // namespace

cudaError_t launch_forward(const CudaForward& problem, Element element, cudaStream_t stream) {
  const int width = std::max(problem.shape.width, problem.shape.value_width);
  return with_types(element, width, [&](auto type, auto size) {
    return run<decltype(type), decltype(size)::value>(problem, stream);
  });
}

}  // namespace stk::prefix_attention
