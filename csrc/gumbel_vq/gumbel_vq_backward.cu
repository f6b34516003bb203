// gumbel_vq backward on CUDA: the gradient of a line of logits from its saved log-sum-exps and the same
// noise again. Short lines stay in a warp's registers; long lines are walked twice by a block.
#include "gumbel_vq/gumbel_vq_device.cuh"

namespace stk {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr int kLongThreads = 512;
constexpr int kMaxGroups = 8;

// What a line needs besides its logits; pointers to the whole tensors.
struct Slopes {
  const float* stats;
  const float* soft;  // gradient of the soft choice, per line; null: none
  const float* mean;  // gradient of mean_probs over N, per group; null: none
};

struct Probabilities {
  float soft[4], clean[4];
};

// Probabilities of a group of elements, from logits and noise. Zero outside the line.
template <bool WHOLE, typename T>
__device__ __forceinline__ Probabilities probabilities(const T* line, const float* bias,
                                                       const Line& where, int group,
                                                       const VqNoise& noise, float scale,
                                                       const float* stats, bool soft, bool clean) {
  float x[4], extra[4] = {};
  load_logits<WHOLE>(line, bias, where, group, x);
  Probabilities p{};
  if (soft) {
    where.noise(noise.seed.key(), noise.seed.stream(), group, extra);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      // Rounded before the subtraction, as the forward rounded it: over one code this is exp(0).
      p.soft[i] = __expf(__fmul_rn(x[i] + extra[i], scale) - stats[1]);
    }
  }
  if (clean) {
#pragma unroll
    for (int i = 0; i < 4; ++i) p.clean[i] = __expf(x[i] - stats[0]);
  }
  return p;
}

// The second bound leaves the registers that the line needs: without it the compiler spills a few.
template <typename T, typename G, int GROUPS, bool WHOLE>
__global__ void __launch_bounds__(kThreads, GROUPS <= 3 ? 3 : 1)
    differentiate_short_kernel(VqShape shape, VqLogits logits, VqNoise noise, Slopes slopes, G* grad) {
  const int lane = threadIdx.x % 32;
  const int64_t local = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (local >= shape.rows * shape.groups) return;
  const int count = static_cast<int>(shape.codes);
  const int64_t g = local % shape.groups;
  const Line where(logits.first * shape.groups + local, count);
  const T* line = static_cast<const T*>(logits.data) + local * count;
  const float* bias = logits.bias == nullptr ? nullptr : logits.bias + g * count;
  const float* soft = slopes.soft == nullptr ? nullptr : slopes.soft + local * count;
  const float* mean = slopes.mean == nullptr ? nullptr : slopes.mean + g * count;
  const float scale = 1.0f / noise.tau.get();
  // p_i (s_i - sum p s) = p_i s_i - p_i sum: the products are all that has to be kept.
  Probabilities p[GROUPS];
  float product[GROUPS][4];
  float soft_dot = 0.0f, mean_dot = 0.0f;
#pragma unroll
  for (int k = 0; k < GROUPS; ++k) {
    const int group = k * 32 + lane;
    p[k] = Probabilities{};
#pragma unroll
    for (int i = 0; i < 4; ++i) product[k][i] = 0.0f;
    if (group >= where.groups) continue;
    p[k] = probabilities<WHOLE>(line, bias, where, group, noise, scale,
                                slopes.stats + local * kStats, soft != nullptr, mean != nullptr);
    float s[4];
    if (soft != nullptr) {
      load_group<WHOLE>(soft, where, group, 0.0f, s);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        soft_dot += p[k].soft[i] * s[i];
        product[k][i] = scale * p[k].soft[i] * s[i];
      }
    }
    if (mean != nullptr) {
      load_group<WHOLE>(mean, where, group, 0.0f, s);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        mean_dot += p[k].clean[i] * s[i];
        product[k][i] += p[k].clean[i] * s[i];
      }
    }
  }
  soft_dot = warp_sum(soft_dot) * scale;
  mean_dot = warp_sum(mean_dot);
#pragma unroll
  for (int k = 0; k < GROUPS; ++k) {
    if (k * 32 + lane >= where.groups) continue;
    float out[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      out[i] = product[k][i] - p[k].soft[i] * soft_dot - p[k].clean[i] * mean_dot;
    }
    store_group<WHOLE>(grad + local * count, where, k * 32 + lane, out);
  }
}

template <typename T, typename G, bool WHOLE>
__global__ void __launch_bounds__(kLongThreads)
    differentiate_long_kernel(VqShape shape, VqLogits logits, VqNoise noise, Slopes slopes, G* grad) {
  __shared__ float softs[kLongThreads / 32], means[kLongThreads / 32];
  const int64_t local = blockIdx.x, g = local % shape.groups;
  const int count = static_cast<int>(shape.codes);
  const Line where(logits.first * shape.groups + local, count);
  const T* line = static_cast<const T*>(logits.data) + local * count;
  const float* bias = logits.bias == nullptr ? nullptr : logits.bias + g * count;
  const float* soft = slopes.soft == nullptr ? nullptr : slopes.soft + local * count;
  const float* mean = slopes.mean == nullptr ? nullptr : slopes.mean + g * count;
  const float* stats = slopes.stats + local * kStats;
  const float scale = 1.0f / noise.tau.get();
  float soft_dot = 0.0f, mean_dot = 0.0f;
  for (int group = threadIdx.x; group < where.groups; group += kLongThreads) {
    const Probabilities p = probabilities<WHOLE>(line, bias, where, group, noise, scale, stats,
                                                 soft != nullptr, mean != nullptr);
    float s[4] = {};
    if (soft != nullptr) load_group<WHOLE>(soft, where, group, 0.0f, s);
#pragma unroll
    for (int i = 0; i < 4; ++i) soft_dot += p.soft[i] * s[i];
    if (mean == nullptr) continue;
    load_group<WHOLE>(mean, where, group, 0.0f, s);
#pragma unroll
    for (int i = 0; i < 4; ++i) mean_dot += p.clean[i] * s[i];
  }
  soft_dot = warp_sum(soft_dot);
  mean_dot = warp_sum(mean_dot);
  if (threadIdx.x % 32 == 0) {
    softs[threadIdx.x / 32] = soft_dot;
    means[threadIdx.x / 32] = mean_dot;
  }
  __syncthreads();
  soft_dot = mean_dot = 0.0f;
  for (int i = 0; i < kLongThreads / 32; ++i) {
    soft_dot += softs[i];
    mean_dot += means[i];
  }
  // `grad` may be `soft`: every element is read and written by the same thread.
  for (int group = threadIdx.x; group < where.groups; group += kLongThreads) {
    const Probabilities p = probabilities<WHOLE>(line, bias, where, group, noise, scale, stats,
                                                 soft != nullptr, mean != nullptr);
    float s[4] = {}, m[4] = {}, out[4];
    if (soft != nullptr) load_group<WHOLE>(soft, where, group, 0.0f, s);
    if (mean != nullptr) load_group<WHOLE>(mean, where, group, 0.0f, m);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      out[i] = scale * p.soft[i] * (s[i] - soft_dot) + p.clean[i] * (m[i] - mean_dot);
    }
    store_group<WHOLE>(grad + local * count, where, group, out);
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    scatter_kernel(VqShape shape, const int64_t* codes, const T* from, float* grad) {
  const int64_t total = shape.rows * shape.groups * shape.width;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; at < total;
       at += stride) {
    const int64_t line = at / shape.width, d = at % shape.width;
    const int64_t code = codes[line];
    if (code < 0 || code >= shape.codes) continue;
    atomicAdd(grad + (line % shape.groups * shape.codes + code) * shape.width + d,
              to_float(from[at]));
  }
}

template <typename T, typename G, int GROUPS>
void run_short(const VqShape& shape, const VqLogits& logits, const VqNoise& noise,
               const Slopes& slopes, bool whole, void* grad, cudaStream_t stream) {
  const auto kernel = whole ? differentiate_short_kernel<T, G, GROUPS, true>
                            : differentiate_short_kernel<T, G, GROUPS, false>;
  const auto blocks = static_cast<unsigned>((shape.lines() + kWarps - 1) / kWarps);
  kernel<<<blocks, kThreads, 0, stream>>>(shape, logits, noise, slopes, static_cast<G*>(grad));
}

template <typename T, typename G>
void run(const VqShape& shape, const VqLogits& logits, const VqNoise& noise, const Slopes& slopes,
         void* grad, cudaStream_t stream) {
  const bool whole = shape.codes % 4 == 0 && aligned(logits.data, 4 * sizeof(T)) &&
                     aligned(grad, 4 * sizeof(G)) && aligned(logits.bias, 16) &&
                     aligned(slopes.soft, 16) && aligned(slopes.mean, 16);
  const int64_t needed = (shape.codes + 3 + 127) / 128;
  if (needed <= kMaxGroups) {
    const auto short_run = needed <= 3 ? run_short<T, G, 3> : run_short<T, G, kMaxGroups>;
    short_run(shape, logits, noise, slopes, whole, grad, stream);
    return;
  }
  const auto kernel =
      whole ? differentiate_long_kernel<T, G, true> : differentiate_long_kernel<T, G, false>;
  kernel<<<static_cast<unsigned>(shape.lines()), kLongThreads, 0, stream>>>(
      shape, logits, noise, slopes, static_cast<G*>(grad));
}

}  // namespace

cudaError_t launch_vq_differentiate(const VqShape& shape, const VqLogits& logits,
                                    const VqNoise& noise, const float* stats, const float* soft,
                                    const float* mean, void* grad, Dtype grad_dtype,
                                    cudaStream_t stream) {
  if (shape.rows == 0) return cudaSuccess;
  const Slopes slopes{stats, soft, mean};
  if (logits.dtype == Dtype::fp32) {
    // Projected logits are fp32 and their gradient has the dtype of the next matrix product.
    with_dtype(grad_dtype, [&](auto zero) {
      run<float, decltype(zero)>(shape, logits, noise, slopes, grad, stream);
    });
  } else {
    with_dtype(logits.dtype, [&](auto zero) {
      using T = decltype(zero);
      run<T, T>(shape, logits, noise, slopes, grad, stream);
    });
  }
  return cudaGetLastError();
}

cudaError_t launch_vq_scatter(const VqShape& shape, const int64_t* codes, const void* grad_vectors,
                              Dtype dtype, float* grad, cudaStream_t stream) {
  const int64_t blocks = (shape.lines() * shape.width + kThreads - 1) / kThreads;
  if (blocks == 0) return cudaSuccess;
  with_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    scatter_kernel<T><<<static_cast<unsigned>(blocks < 65536 ? blocks : 65536), kThreads, 0, stream>>>(
        shape, codes, static_cast<const T*>(grad_vectors), grad);
  });
  return cudaGetLastError();
}

}  // namespace stk
