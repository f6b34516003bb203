// gumbel_vq: what host and device code share, and the CUDA launchers.
#pragma once

#include <cstdint>

#ifdef STK_WITH_CUDA
#include <cuda_runtime_api.h>

#include "common/dtype.h"
#include "common/random.h"
#endif

namespace stk {

// N rows of G groups of V logits each, beside a codebook of G * V rows of width d. A "line" below is
// one group of one row: line = row * G + group, and its noise has the element indices line * V + v.
struct VqShape {
  int64_t rows, groups, codes, width;

  int64_t lines() const { return rows * groups; }
};

// Per line: log-sum-exp of the clean logits, and of the noisy logits divided by tau.
constexpr int kStats = 2;

#ifdef STK_WITH_CUDA

// Logits of consecutive rows, contiguous; `first` is the overall index of the first one. `bias` (G, V)
// fp32 is added to every row; it may be null.
struct VqLogits {
  const void* data;
  Dtype dtype;
  const float* bias;
  int64_t first;
};

struct VqNoise {
  bool on;
  Scalar<float> tau;
  Seed seed;
};

// Partial sums of mean_probs that one launch on the current device writes: (partials, G, V) fp32.
int64_t vq_partials(const VqShape& shape);

// Codes, stats and counts of shape.rows rows. Adds the clean softmax of every partial's rows into
// `partials`, which is zeroed by the caller before the first chunk.
cudaError_t launch_vq_choose(const VqShape& shape, const VqLogits& logits, const VqNoise& noise,
                             int64_t partial_count, int64_t* codes, float* stats,
                             unsigned long long* counts, float* partials, cudaStream_t stream);

// mean_probs = sum of the partials * scale.
cudaError_t launch_vq_mean(const VqShape& shape, const float* partials, int64_t partial_count,
                           float scale, float* mean_probs, cudaStream_t stream);

// vectors (N, G * d) from the codes; `item` is the size of an element in bytes.
cudaError_t launch_vq_gather(const VqShape& shape, const int64_t* codes, const void* codebook,
                             int item, void* vectors, cudaStream_t stream);

// Gradient of the logits, dtype of `grad`. `soft` (rows, G, V) fp32 is the gradient of the soft choice,
// null where there is none; `mean` (G, V) fp32 that of mean_probs over N, or null. `grad` may be `soft`.
cudaError_t launch_vq_differentiate(const VqShape& shape, const VqLogits& logits,
                                    const VqNoise& noise, const float* stats, const float* soft,
                                    const float* mean, void* grad, Dtype grad_dtype,
                                    cudaStream_t stream);

// Adds the gradient of every chosen vector to its row of `grad` (G, V, d) fp32, with atomics.
cudaError_t launch_vq_scatter(const VqShape& shape, const int64_t* codes, const void* grad_vectors,
                              Dtype dtype, float* grad, cudaStream_t stream);

#endif  // STK_WITH_CUDA

}  // namespace stk
