// The two kernels of the backward of prefix attention on CUDA, one for the gradients of keys and values
// and one for that of queries (after Dao, 2023). Each owns what it sums up, so that there are no atomic
// additions, no dS in memory, and the same bits every time; the price is that scores are computed twice.
#pragma once

#include "attention/attention_tiles.cuh"

namespace stk::prefix_attention {

template <typename T, int D>
struct BackwardTile {
  static constexpr bool kNarrow = sizeof(T) == 2;
  static constexpr int kWarps = 4;
  static constexpr int kThreads = kWarps * 32;
  static constexpr int kTilesM = kNarrow && D <= 64 ? 2 : 1;  // 16-row tiles of a warp
  static constexpr int kOwned = kWarps * kTilesM * 16;        // keys (or queries) that a block owns
  static constexpr int kVisited = kNarrow ? 64 : 32;          // queries (or keys) of one tile
  // Of these a warp takes so many at once: what fits in registers beside one sum, or beside two.
  static constexpr int kKeyChunk = 32;
  static constexpr int kQueryChunk = D == (kNarrow ? 64 : 128) ? 16 : 32;
  // The widest fp32 heads leave the kernel of keys and values no register for sums of their own.
  static constexpr bool kSumsInside = !kNarrow && D > 64;
  static constexpr int kOwnedTile = kOwned * kPitch<T, D>;
  static constexpr int kVisitedTile = kVisited * kPitch<T, D>;
  static constexpr int kBytes = (2 * kOwnedTile + 4 * kVisitedTile) * static_cast<int>(sizeof(T));
  static_assert(kVisited % kSeenBlock == 0);
};

// P with dropout's factor, in place of the score, and dS in place of dP.
__device__ __forceinline__ void differentiate(float& score, float& slope, bool seen, float keep,
                                              float scale2, float logsumexp2, float delta) {
  const float weight = seen ? exp2_fast(fmaf(score, scale2, -logsumexp2)) : 0.0f;
  slope = seen ? weight * (fmaf(slope, keep, -delta)) : 0.0f;
  score = weight * keep;
}

// ---- keys and values ------------------------------------------------------------------------------

// What a thread carries of one query from memory to shared memory.
struct QueryRow {
  float logsumexp2 = INFINITY, delta = 0.0f;
  int seen = 0;
};

template <int kCount>
struct QueryRows {
  float logsumexp2[2][kCount], delta[2][kCount];
  int seen[2][kCount];

  __device__ __forceinline__ void put(int stage, int i, const QueryRow& row) {
    logsumexp2[stage][i] = row.logsumexp2;
    delta[stage][i] = row.delta;
    seen[stage][i] = row.seen;
  }
};

// Scores (keys as rows) of one chunk become P^T, and dP^T becomes dS^T.
template <int MT, int NT, int kCount>
__device__ __forceinline__ void differentiate_keys(float (&scores)[MT][NT][4], float (&slopes)[MT][NT][4],
                                                   const QueryRows<kCount>& rows, int stage, int column,
                                                   int key, const CudaShape& s, uint64_t row, int lane) {
  const float scale2 = s.scale * kLog2E;
#pragma unroll
  for (int n = 0; n < NT; ++n) {
    const int i = column + 8 * n + 2 * (lane & 3);
    const float2 logsumexp2 = *reinterpret_cast<const float2*>(&rows.logsumexp2[stage][i]);
    const float2 delta = *reinterpret_cast<const float2*>(&rows.delta[stage][i]);
    const int2 seen = *reinterpret_cast<const int2*>(&rows.seen[stage][i]);
#pragma unroll
    for (int m = 0; m < MT; ++m) {
      uint32_t kept = 0xf;
      if (s.threshold > 0) kept = DropoutBits(s).keep_keys(row + 8 * n, key + 16 * m, lane);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int mine = key + 16 * m + (lane >> 2) + (e & 2) * 4;
        differentiate(scores[m][n][e], slopes[m][n][e], mine < (e & 1 ? seen.y : seen.x),
                      kept >> e & 1 ? s.factor : 0.0f, scale2, e & 1 ? logsumexp2.y : logsumexp2.x,
                      e & 1 ? delta.y : delta.x);
      }
    }
  }
}

// Keys that any query of a row sees.
__device__ __forceinline__ int keys_seen(const int* most_seen, int blocks) {
  int limit = 0;
  for (int block = 0; block < blocks; ++block) limit = max(limit, __ldcg(most_seen + block));
  return limit;
}

template <typename T, int D>
__global__ void __launch_bounds__(BackwardTile<T, D>::kThreads)
    key_value_kernel(const __grid_constant__ CudaBackward p) {
  using Tile = BackwardTile<T, D>;
  constexpr int MT = Tile::kTilesM, NT = Tile::kQueryChunk / 8, kThreads = Tile::kThreads;
  extern __shared__ __align__(16) unsigned char memory[];
  __shared__ __align__(16) QueryRows<Tile::kVisited> rows;
  T* keys = reinterpret_cast<T*>(memory);
  T* values = keys + Tile::kOwnedTile;
  T* queries = values + Tile::kOwnedTile;
  T* grads = queries + 2 * Tile::kVisitedTile;

  const CudaShape& s = p.shape;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int start = blockIdx.x * Tile::kOwned, h = blockIdx.y, b = blockIdx.z;
  const int row0 = warp * MT * 16;
  const int real = real_queries(s, b);
  const int blocks = (s.query_count + kSeenBlock - 1) / kSeenBlock;
  const int* most_seen = p.most_seen + b * blocks;
  const int64_t head_row = (static_cast<int64_t>(b) * s.heads + h) * s.query_count;
  const int tiles = (real + Tile::kVisited - 1) / Tile::kVisited;

  const auto most = [&](int query) {
    const int block = query / kSeenBlock;
    return block < blocks ? most_seen[block] : 0;
  };
  // The first tile from `tile` on with a query that sees a key of this block.
  const auto next_tile = [&](int tile) {
    for (; tile < tiles; ++tile) {
      int seen = 0;
#pragma unroll
      for (int i = 0; i < Tile::kVisited; i += kSeenBlock) {
        seen = max(seen, most(tile * Tile::kVisited + i));
      }
      if (seen > start) break;
    }
    return tile;
  };
  const auto copy_queries = [&](int tile, int stage) {
    if (tile < tiles) {
      const int first = tile * Tile::kVisited;
      copy_tile<T, D, Tile::kVisited, kThreads>(queries + stage * Tile::kVisitedTile,
                                                head_of<const T>(p.query, b, h), p.query.row, first, real,
                                                s.width);
      copy_tile<T, D, Tile::kVisited, kThreads>(grads + stage * Tile::kVisitedTile,
                                                head_of<const T>(p.grad, b, h), p.grad.row, first, real,
                                                s.value_width);
    }
    commit_copies();
  };
  const auto fetch_row = [&](int tile) {
    QueryRow row;
    const int i = tile * Tile::kVisited + static_cast<int>(threadIdx.x);
    if (threadIdx.x < Tile::kVisited && i < real) {
      row.logsumexp2 = p.logsumexp[head_row + i] * kLog2E;
      row.delta = p.delta[head_row + i];
      row.seen = visible_keys(s, b, i, real);
    }
    return row;
  };

  const int limit = keys_seen(most_seen, blocks);
  copy_tile<T, D, Tile::kOwned, kThreads>(keys, head_of<const T>(p.key, b, h), p.key.row, start, limit,
                                          s.width);
  copy_tile<T, D, Tile::kOwned, kThreads>(values, head_of<const T>(p.value, b, h), p.value.row, start,
                                          limit, s.value_width);
  int tile = next_tile(0), stage = 0;
  copy_queries(tile, 0);
  if (threadIdx.x < Tile::kVisited) rows.put(0, threadIdx.x, fetch_row(tile));

  float key_grad[MT][D / 8][4] = {}, value_grad[MT][D / 8][4] = {};
  while (tile < tiles) {
    const int following = next_tile(tile + 1);
    copy_queries(following, stage ^ 1);
    const QueryRow row = fetch_row(following);
    wait_copies<1>();
    __syncthreads();
    const T* tile_queries = queries + stage * Tile::kVisitedTile;
    const T* tile_grads = grads + stage * Tile::kVisitedTile;
#pragma unroll 1
    for (int column = 0; column < Tile::kVisited; column += Tile::kQueryChunk) {
      if (most(tile * Tile::kVisited + column) <= start + row0) continue;
      float scores[MT][NT][4] = {}, slopes[MT][NT][4] = {};
      multiply_abt<T, D, MT, NT>(scores, keys, row0, tile_queries, column, lane);
      multiply_abt<T, D, MT, NT>(slopes, values, row0, tile_grads, column, lane);
      differentiate_keys<MT, NT>(scores, slopes, rows, stage, column, start + row0, s,
                                 head_row + tile * Tile::kVisited + column, lane);
      multiply_weights<T, D, Tile::kSumsInside>(value_grad, scores, tile_grads, column, lane);
      multiply_weights<T, D, Tile::kSumsInside>(key_grad, slopes, tile_queries, column, lane);
    }
    if (threadIdx.x < Tile::kVisited) rows.put(stage ^ 1, threadIdx.x, row);
    __syncthreads();
    tile = following;
    stage ^= 1;
  }

  wait_copies<0>();
  __syncthreads();
  // Counted again: it would have cost a register all the way.
  const int written = keys_seen(most_seen, blocks);
  float key_factor[MT][2], value_factor[MT][2];
#pragma unroll
  for (int m = 0; m < MT; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const bool seen = start + row0 + 16 * m + 8 * half + (lane >> 2) < written;
      key_factor[m][half] = seen ? s.scale : 0.0f;
      value_factor[m][half] = seen ? 1.0f : 0.0f;
    }
  }
  store_rows<T, D, MT>(key_grad, key_factor, keys + row0 * kPitch<T, D>, head_of<T>(p.key_grad, b, h),
                       p.key_grad.row, start + row0, s.key_count, s.width, lane);
  store_rows<T, D, MT>(value_grad, value_factor, values + row0 * kPitch<T, D>,
                       head_of<T>(p.value_grad, b, h), p.value_grad.row, start + row0, s.key_count,
                       s.value_width, lane);
}

// ---- queries --------------------------------------------------------------------------------------

// What a thread knows of its rows.
template <int MT>
struct OwnQueries {
  int visible[MT][2];
  float logsumexp2[MT][2], delta[MT][2];
};

template <int MT, int NT>
__device__ __forceinline__ void differentiate_queries(float (&scores)[MT][NT][4],
                                                      float (&slopes)[MT][NT][4],
                                                      const OwnQueries<MT>& own, int key0,
                                                      const CudaShape& s, uint64_t row, int lane) {
  const float scale2 = s.scale * kLog2E;
#pragma unroll
  for (int m = 0; m < MT; ++m) {
#pragma unroll
    for (int n = 0; n < NT; ++n) {
      uint32_t kept = 0xf;
      if (s.threshold > 0) kept = DropoutBits(s).keep_queries(row + 16 * m, key0 + 8 * n, lane);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int key = key0 + 8 * n + 2 * (lane & 3) + (e & 1);
        differentiate(scores[m][n][e], slopes[m][n][e], key < own.visible[m][e / 2],
                      kept >> e & 1 ? s.factor : 0.0f, scale2, own.logsumexp2[m][e / 2],
                      own.delta[m][e / 2]);
      }
    }
  }
}

template <typename T, int D>
__global__ void __launch_bounds__(BackwardTile<T, D>::kThreads)
    query_kernel(const __grid_constant__ CudaBackward p) {
  using Tile = BackwardTile<T, D>;
  constexpr int MT = Tile::kTilesM, NT = Tile::kKeyChunk / 8, kThreads = Tile::kThreads;
  extern __shared__ __align__(16) unsigned char memory[];
  __shared__ int scratch[2 * Tile::kWarps];
  T* queries = reinterpret_cast<T*>(memory);
  T* grads = queries + Tile::kOwnedTile;
  T* keys = grads + Tile::kOwnedTile;
  T* values = keys + 2 * Tile::kVisitedTile;

  const CudaShape& s = p.shape;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int start = (gridDim.x - 1 - blockIdx.x) * Tile::kOwned, h = blockIdx.y, b = blockIdx.z;
  const int row0 = warp * MT * 16;
  const int real = real_queries(s, b);
  const int limit = seen_range<Tile::kOwned, kThreads>(s, b, start, real, scratch).x;
  const int tiles = (limit + Tile::kVisited - 1) / Tile::kVisited;

  const auto copy_keys = [&](int tile) {
    if (tile < tiles) {
      const int stage = tile % 2 * Tile::kVisitedTile, first = tile * Tile::kVisited;
      copy_tile<T, D, Tile::kVisited, kThreads>(keys + stage, head_of<const T>(p.key, b, h), p.key.row,
                                                first, limit, s.width);
      copy_tile<T, D, Tile::kVisited, kThreads>(values + stage, head_of<const T>(p.value, b, h),
                                                p.value.row, first, limit, s.value_width);
    }
    commit_copies();
  };
  const int copied = limit > 0 ? real : 0;
  copy_tile<T, D, Tile::kOwned, kThreads>(queries, head_of<const T>(p.query, b, h), p.query.row, start,
                                          copied, s.width);
  copy_tile<T, D, Tile::kOwned, kThreads>(grads, head_of<const T>(p.grad, b, h), p.grad.row, start,
                                          copied, s.value_width);
  copy_keys(0);

  const int64_t first_row = (static_cast<int64_t>(b) * s.heads + h) * s.query_count + start + row0;
  OwnQueries<MT> own;
  int warp_limit = 0;
#pragma unroll
  for (int m = 0; m < MT; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = 16 * m + 8 * half + (lane >> 2);
      own.visible[m][half] = visible_keys(s, b, start + row0 + row, real);
      const bool seen = own.visible[m][half] > 0;
      own.logsumexp2[m][half] = seen ? p.logsumexp[first_row + row] * kLog2E : INFINITY;
      own.delta[m][half] = seen ? p.delta[first_row + row] : 0.0f;
      warp_limit = max(warp_limit, own.visible[m][half]);
    }
  }
  warp_limit = __reduce_max_sync(0xffffffffu, warp_limit);

  float query_grad[MT][D / 8][4] = {};
  for (int tile = 0; tile < tiles; ++tile) {
    copy_keys(tile + 1);
    wait_copies<1>();
    __syncthreads();
    const T* tile_keys = keys + tile % 2 * Tile::kVisitedTile;
    const T* tile_values = values + tile % 2 * Tile::kVisitedTile;
#pragma unroll 1
    for (int chunk = 0; chunk < Tile::kVisited; chunk += Tile::kKeyChunk) {
      const int key0 = tile * Tile::kVisited + chunk;
      if (key0 >= warp_limit) break;
      float scores[MT][NT][4] = {}, slopes[MT][NT][4] = {};
      multiply_abt<T, D, MT, NT>(scores, queries, row0, tile_keys, chunk, lane);
      multiply_abt<T, D, MT, NT>(slopes, grads, row0, tile_values, chunk, lane);
      differentiate_queries<MT, NT>(scores, slopes, own, key0, s, first_row + (lane >> 2), lane);
      multiply_weights<T, D>(query_grad, slopes, tile_keys, chunk, lane);
    }
    __syncthreads();
  }

  wait_copies<0>();
  __syncthreads();
  float factor[MT][2];
#pragma unroll
  for (int m = 0; m < MT; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) factor[m][half] = own.visible[m][half] > 0 ? s.scale : 0.0f;
  }
  store_rows<T, D, MT>(query_grad, factor, queries + row0 * kPitch<T, D>,
                       head_of<T>(p.query_grad, b, h), p.query_grad.row, start + row0, s.query_count,
                       s.width, lane);
}

}  // namespace stk::prefix_attention
