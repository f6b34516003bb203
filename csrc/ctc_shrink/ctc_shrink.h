// ctc_shrink: constants that host and device code share, and the CUDA launchers.
#pragma once

#include <cstdint>

#ifdef STK_WITH_CUDA
#include <cuda_runtime_api.h>

#include "common/dtype.h"
#endif

namespace stk {

enum class Reduce : int { first, mean, weighted };

struct Options {
  Reduce reduce;
  bool drop;  // blank runs disappear; otherwise each stays as a segment
  int64_t blank;
};

#ifdef STK_WITH_CUDA

// B clips of T frames; states of width D. All tensors but the scores are contiguous.
struct ShrinkShape {
  int64_t clips, frames, width;
};

// Logits (B, T, V) whose last dimension is contiguous; `width` is V.
struct Scores {
  const void* data;
  Dtype dtype;
  int64_t clip_stride, frame_stride, width;
};

// Forward of one call. `labels` (B, T) is given where `scores.data` is null, and scratch otherwise, as are
// `near` (B, T), written and read with scores alone, and `starts` (B, T).
struct ShrinkForward {
  Scores scores;
  const void* states;
  Dtype states_dtype;
  const int64_t* lengths;
  int64_t* labels;
  float* near;
  int32_t* starts;
  void* out;             // (B, T, D), dtype of the states
  int64_t* new_lengths;  // (B,)
  int64_t* segments;     // (B, T)
  float* weights;        // (B, T): a frame's share of its segment
};

cudaError_t launch_ctc_shrink(const ShrinkShape& shape, const Options& options,
                              const ShrinkForward& call, cudaStream_t stream);

// Backward; `scores.data` is null unless the reduction was weighted. `slopes` (B, T) is scratch for it.
struct ShrinkBackward {
  const void* grad;  // (B, T, D), dtype of the states
  const void* states;
  Dtype states_dtype;
  Scores scores;
  const int64_t* segments;
  const float* weights;
  float* slopes;
  void* grad_states;
  void* grad_scores;  // (B, T, V) contiguous, dtype of the scores
};

cudaError_t launch_ctc_shrink_backward(const ShrinkShape& shape, const ShrinkBackward& call,
                                       cudaStream_t stream);

#endif  // STK_WITH_CUDA

}  // namespace stk
