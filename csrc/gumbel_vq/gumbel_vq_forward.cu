// gumbel_vq forward on CUDA. Short lines: a warp holds a line in registers and sums the clean softmax
// of the lines it meets. Long lines: a block walks a line once, and a second kernel sums columns.
#include "gumbel_vq/gumbel_vq_device.cuh"

namespace stk {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr int kLongThreads = 512;
constexpr int kMaxGroups = 8;  // groups of four per lane in registers: lines of up to about 1,000 codes
constexpr int kRowsPerPartial = 64;

bool is_short(const VqShape& shape) { return shape.codes + 3 <= 128 * kMaxGroups; }

// Every warp of a block serves one group g = blockIdx.y and takes the rows warp, warp + warps, ...
template <typename T, int GROUPS, bool WHOLE>
__global__ void __launch_bounds__(kThreads)
    choose_short_kernel(VqShape shape, VqLogits logits, VqNoise noise, int64_t* codes, float* stats,
                        unsigned long long* counts, float* partials) {
  extern __shared__ float shared[];  // (V,): this block's sum of probabilities
  const int lane = threadIdx.x % 32;
  const int64_t g = blockIdx.y, warps = static_cast<int64_t>(gridDim.x) * kWarps;
  const int count = static_cast<int>(shape.codes);
  const float* bias = logits.bias == nullptr ? nullptr : logits.bias + g * count;
  const float scale = 1.0f / noise.tau.get();
  const uint64_t seed = noise.seed.key(), stream = noise.seed.stream();
  for (int v = threadIdx.x; v < count; v += kThreads) shared[v] = 0.0f;
  __syncthreads();
  // Where lines start on counters, a lane meets the same codes in every line and sums them itself.
  float total[WHOLE ? GROUPS : 1][4] = {};
  for (int64_t row = blockIdx.x * kWarps + threadIdx.x / 32; row < shape.rows; row += warps) {
    const int64_t local = row * shape.groups + g;
    const Line where(logits.first * shape.groups + local, count);
    const T* line = static_cast<const T*>(logits.data) + local * count;
    float x[GROUPS][4], y[GROUPS][4];
    float top = -INFINITY;
    Best best{-INFINITY, count};
#pragma unroll
    for (int k = 0; k < GROUPS; ++k) {
      const int group = k * 32 + lane;
      const bool inside = group < where.groups;
#pragma unroll
      for (int i = 0; i < 4; ++i) x[k][i] = y[k][i] = -INFINITY;
      if (!inside) continue;
      load_logits<WHOLE>(line, bias, where, group, x[k]);
      float extra[4] = {};
      if (noise.on) where.noise(seed, stream, group, extra);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        y[k][i] = x[k][i] + extra[i];
        top = fmaxf(top, x[k][i]);
        best.take(y[k][i], where.at(group) + i);
      }
    }
    top = warp_max(top);
    best = warp_best(best);
    float clean = 0.0f, soft = 0.0f;
#pragma unroll
    for (int k = 0; k < GROUPS; ++k) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (noise.on) soft += __expf((y[k][i] - best.value) * scale);
        x[k][i] = __expf(x[k][i] - top);
        clean += x[k][i];
      }
    }
    clean = warp_sum(clean);
    soft = warp_sum(soft);
    const float share = 1.0f / clean;
#pragma unroll
    for (int k = 0; k < GROUPS; ++k) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if constexpr (WHOLE) {
          total[k][i] += share * x[k][i];
        } else {
          const int at = where.at(k * 32 + lane) + i;
          if (where.holds(at)) atomicAdd(shared + at, share * x[k][i]);
        }
      }
    }
    if (lane == 0) {
      const int code = best.index >= 0 && best.index < count ? best.index : 0;
      codes[local] = code;
      stats[local * kStats] = top + logf(clean);
      stats[local * kStats + 1] = noise.on ? best.value * scale + logf(soft) : 0.0f;
      atomicAdd(counts + g * count + code, 1ull);
    }
  }
  if constexpr (WHOLE) {
    // Warps add in turn, so that the sum has one order.
    for (int warp = 0; warp < kWarps; ++warp) {
      if (threadIdx.x / 32 == warp) {
#pragma unroll
        for (int k = 0; k < GROUPS; ++k) {
          const int at = 4 * (k * 32 + lane);
          if (at < count) {
#pragma unroll
            for (int i = 0; i < 4; ++i) shared[at + i] += total[k][i];
          }
        }
      }
      __syncthreads();
    }
  }
  __syncthreads();
  float* into = partials + (blockIdx.x * shape.groups + g) * count;
  for (int v = threadIdx.x; v < count; v += kThreads) into[v] += shared[v];
}

template <typename T, bool WHOLE>
__global__ void __launch_bounds__(kLongThreads)
    choose_long_kernel(VqShape shape, VqLogits logits, VqNoise noise, int64_t* codes, float* stats,
                       unsigned long long* counts) {
  __shared__ ExpSum cleans[kLongThreads / 32], softs[kLongThreads / 32];
  __shared__ Best winners[kLongThreads / 32];
  const int64_t local = blockIdx.x, g = local % shape.groups;
  const int count = static_cast<int>(shape.codes);
  const Line where(logits.first * shape.groups + local, count);
  const T* line = static_cast<const T*>(logits.data) + local * count;
  const float* bias = logits.bias == nullptr ? nullptr : logits.bias + g * count;
  const float scale = 1.0f / noise.tau.get();
  const uint64_t seed = noise.seed.key(), stream = noise.seed.stream();
  ExpSum clean{-INFINITY, 0.0f}, soft{-INFINITY, 0.0f};
  Best best{-INFINITY, count};
  for (int group = threadIdx.x; group < where.groups; group += kLongThreads) {
    float x[4], extra[4] = {};
    load_logits<WHOLE>(line, bias, where, group, x);
    clean.take(x);
    if (noise.on) where.noise(seed, stream, group, extra);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      x[i] += extra[i];
      best.take(x[i], where.at(group) + i);
      x[i] *= scale;
    }
    if (noise.on) soft.take(x);
  }
  clean = warp_join(clean);
  soft = warp_join(soft);
  best = warp_best(best);
  if (threadIdx.x % 32 == 0) {
    cleans[threadIdx.x / 32] = clean;
    softs[threadIdx.x / 32] = soft;
    winners[threadIdx.x / 32] = best;
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int i = 1; i < kLongThreads / 32; ++i) {
    clean.join(cleans[i]);
    soft.join(softs[i]);
    best.take(winners[i].value, winners[i].index);
  }
  const int code = best.index >= 0 && best.index < count ? best.index : 0;
  codes[local] = code;
  stats[local * kStats] = clean.top + logf(clean.sum);
  stats[local * kStats + 1] = noise.on ? soft.top + logf(soft.sum) : 0.0f;
  atomicAdd(counts + g * count + code, 1ull);
}

// Column sums of the clean softmax over kRowsPerPartial rows at a time.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    columns_kernel(VqShape shape, VqLogits logits, const float* stats, float* partials) {
  const int64_t size = shape.groups * shape.codes;
  const int64_t column = static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x;
  if (column >= size) return;
  const int64_t g = column / shape.codes;
  const float bias = logits.bias == nullptr ? 0.0f : logits.bias[column];
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kRowsPerPartial;
  const int64_t last = first + kRowsPerPartial < shape.rows ? first + kRowsPerPartial : shape.rows;
  const T* from = static_cast<const T*>(logits.data) + column;
  float total = 0.0f;
#pragma unroll 4
  for (int64_t row = first; row < last; ++row) {
    const float x = to_float(from[row * size]) + bias;
    total += __expf(x - stats[(row * shape.groups + g) * kStats]);
  }
  partials[blockIdx.x * size + column] += total;
}

__global__ void __launch_bounds__(kThreads)
    mean_kernel(int64_t size, const float* partials, int64_t count, float scale, float* mean) {
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (column >= size) return;
  float total = 0.0f;
#pragma unroll 8
  for (int64_t i = 0; i < count; ++i) total += partials[i * size + column];
  mean[column] = total * scale;
}

// A piece of 16, 4, 2 or 8 bytes of a chosen row per thread.
template <typename Piece>
__global__ void __launch_bounds__(kThreads)
    gather_kernel(int64_t total, int64_t pieces, int64_t groups, int64_t count, const int64_t* codes,
                  const Piece* codebook, Piece* vectors) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; at < total;
       at += stride) {
    const int64_t line = at / pieces, piece = at % pieces;
    vectors[at] = codebook[(line % groups * count + codes[line]) * pieces + piece];
  }
}

template <typename T, int GROUPS>
void run_short(const VqShape& shape, const VqLogits& logits, const VqNoise& noise, int64_t blocks,
               int64_t* codes, float* stats, unsigned long long* counts, float* partials,
               cudaStream_t stream) {
  const bool whole = shape.codes % 4 == 0 && aligned(logits.data, 4 * sizeof(T)) &&
                     (logits.bias == nullptr || aligned(logits.bias, 16));
  const auto kernel =
      whole ? choose_short_kernel<T, GROUPS, true> : choose_short_kernel<T, GROUPS, false>;
  const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(shape.groups));
  kernel<<<grid, kThreads, shape.codes * sizeof(float), stream>>>(shape, logits, noise, codes,
                                                                  stats, counts, partials);
}

unsigned blocks_for(int64_t items) { return static_cast<unsigned>((items + kThreads - 1) / kThreads); }

}  // namespace

int64_t vq_partials(const VqShape& shape) {
  if (!is_short(shape)) return (shape.rows + kRowsPerPartial - 1) / kRowsPerPartial;
  int device = 0, multiprocessors = 0;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device) !=
          cudaSuccess) {
    multiprocessors = 1;  // the launch that follows reports what is wrong with the device
  }
  // Enough blocks to fill the device over all groups, none without a row for each of its warps.
  const int64_t fill = (4 * multiprocessors + shape.groups - 1) / shape.groups;
  const int64_t useful = (shape.rows + kWarps - 1) / kWarps;
  return fill < useful ? fill : useful;
}

cudaError_t launch_vq_choose(const VqShape& shape, const VqLogits& logits, const VqNoise& noise,
                             int64_t partial_count, int64_t* codes, float* stats,
                             unsigned long long* counts, float* partials, cudaStream_t stream) {
  if (shape.rows == 0) return cudaSuccess;
  with_dtype(logits.dtype, [&](auto zero) {
    using T = decltype(zero);
    if (is_short(shape)) {
      const int64_t needed = (shape.codes + 3 + 127) / 128;
      const auto run = needed <= 3 ? run_short<T, 3> : run_short<T, kMaxGroups>;
      run(shape, logits, noise, partial_count, codes, stats, counts, partials, stream);
      return;
    }
    const bool whole = shape.codes % 4 == 0 && aligned(logits.data, 4 * sizeof(T)) &&
                       (logits.bias == nullptr || aligned(logits.bias, 16));
    const auto kernel = whole ? choose_long_kernel<T, true> : choose_long_kernel<T, false>;
    kernel<<<static_cast<unsigned>(shape.lines()), kLongThreads, 0, stream>>>(
        shape, logits, noise, codes, stats, counts);
    const dim3 grid(static_cast<unsigned>(partial_count), blocks_for(shape.groups * shape.codes));
    columns_kernel<T><<<grid, kThreads, 0, stream>>>(shape, logits, stats, partials);
  });
  return cudaGetLastError();
}

cudaError_t launch_vq_mean(const VqShape& shape, const float* partials, int64_t partial_count,
                           float scale, float* mean_probs, cudaStream_t stream) {
  const int64_t size = shape.groups * shape.codes;
  mean_kernel<<<blocks_for(size), kThreads, 0, stream>>>(size, partials, partial_count, scale,
                                                         mean_probs);
  return cudaGetLastError();
}

cudaError_t launch_vq_gather(const VqShape& shape, const int64_t* codes, const void* codebook,
                             int item, void* vectors, cudaStream_t stream) {
  const int64_t bytes = shape.width * item;
  if (shape.lines() == 0) return cudaSuccess;
  const auto run = [&](auto zero) {
    using Piece = decltype(zero);
    const int64_t pieces = bytes / static_cast<int64_t>(sizeof(Piece));
    const int64_t total = shape.lines() * pieces;
    const int64_t blocks = (total + kThreads - 1) / kThreads;
    gather_kernel<Piece><<<static_cast<unsigned>(blocks < 65536 ? blocks : 65536), kThreads, 0,
                           stream>>>(total, pieces, shape.groups, shape.codes, codes,
                                     static_cast<const Piece*>(codebook),
                                     static_cast<Piece*>(vectors));
  };
  const bool whole = bytes % 16 == 0 && aligned(codebook, 16) && aligned(vectors, 16);
  if (whole) run(uint4{});
  else if (item == 8) run(uint64_t{});
  else if (item == 4) run(uint32_t{});
  else run(uint16_t{});
  return cudaGetLastError();
}

}  // namespace stk
