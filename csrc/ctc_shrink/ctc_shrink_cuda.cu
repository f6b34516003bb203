// ctc_shrink on CUDA. Forward: label every frame (a warp each), find the runs of every clip (a block
// each), reduce every output row (a warp each). Nothing is read back to the host.
#include <cfloat>

#include "common/cuda_reduce.cuh"
#include "common/cuda_vec.cuh"
#include "ctc_shrink/ctc_shrink.h"

namespace stk {
namespace {

constexpr int kWarps = 8;  // per block, where a warp works alone
constexpr int kThreads = 32 * kWarps;
constexpr int kScanThreads = 256;

__device__ __forceinline__ int64_t warp_index() {
  return static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
}

__device__ __forceinline__ int64_t clamped(int64_t length, int64_t frames) {
  return length < 0 ? 0 : length > frames ? frames : length;
}

// Best of a row without element `skip`, index V where there is none. VEC elements per access; the warp ends with one result.
template <int VEC, typename T>
__device__ __forceinline__ Best row_best(const T* row, int width, int skip) {
  Best best{-INFINITY, width};
  for (int at = (threadIdx.x % 32) * VEC; at < width; at += 32 * VEC) {
    float x[VEC];
    load_vec<VEC>(row + at, x);
#pragma unroll
    for (int i = 0; i < VEC; ++i) {
      if (at + i != skip) best.take(x[i], at + i);
    }
  }
  return warp_best(best);
}

template <int VEC, typename T>
__device__ __forceinline__ float row_sum_exp(const T* row, int width, float top) {
  float total = 0.0f;
  for (int at = (threadIdx.x % 32) * VEC; at < width; at += 32 * VEC) {
    float x[VEC];
    load_vec<VEC>(row + at, x);
#pragma unroll
    for (int i = 0; i < VEC; ++i) total += __expf(x[i] - top);
  }
  return warp_sum(total);
}

struct RowLabel {
  int label;
  float top;    // score of the label
  float other;  // best score of a label other than the blank, -inf where there is none
};

template <int VEC, typename T>
__device__ __forceinline__ RowLabel label_row(const T* row, int width, int blank) {
  const Best other = row_best<VEC>(row, width, blank);
  const float silence = to_float(row[blank]);
  const bool speech = other.index < width && !(silence > other.value) &&
                      !(silence == other.value && blank < other.index);
  return {speech ? other.index : blank, speech ? other.value : silence, other.value};
}

template <typename T, int VEC>
__global__ void __launch_bounds__(kThreads)
    label_kernel(ShrinkShape shape, Scores scores, const int64_t* lengths, int blank, bool weighted,
                 int64_t* labels, float* near, float* weights) {
  const int64_t frame = warp_index();
  if (frame >= shape.clips * shape.frames) return;
  const int64_t clip = frame / shape.frames, t = frame % shape.frames;
  if (t >= clamped(lengths[clip], shape.frames)) return;
  const T* row = static_cast<const T*>(scores.data) + clip * scores.clip_stride +
                 t * scores.frame_stride;
  const int width = static_cast<int>(scores.width);
  const RowLabel found = label_row<VEC>(row, width, blank);
  const float total = weighted ? row_sum_exp<VEC>(row, width, found.top) : 1.0f;
  if (threadIdx.x % 32 == 0) {
    labels[frame] = found.label;
    near[frame] = found.other;
    weights[frame] = 1.0f / total;
  }
}

// Inclusive sum over the threads of a block of kScanThreads.
__device__ __forceinline__ int block_scan(int value, int* shared) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const int before = __shfl_up_sync(kAll, value, step);
    if (lane >= step) value += before;
  }
  __syncthreads();  // `shared` may still be read by the scan before
  if (lane == 31) shared[warp] = value;
  __syncthreads();
  for (int i = 0; i < warp; ++i) value += shared[i];
  return value;
}

// The runs of one clip: segments, starts, the number of segments, and zero weights where a frame is in
// none. `near` is null where labels were given.
__global__ void __launch_bounds__(kScanThreads)
    runs_kernel(ShrinkShape shape, Options options, const int64_t* labels, const float* near,
                const int64_t* lengths, int32_t* starts, int64_t* new_lengths, int64_t* segments,
                float* weights) {
  __shared__ int shared[kScanThreads / 32];
  __shared__ float best_value[kScanThreads / 32];
  __shared__ int best_frame[kScanThreads / 32];
  const int frames = static_cast<int>(shape.frames);
  const int length = static_cast<int>(clamped(lengths[blockIdx.x], shape.frames));
  const int64_t base = blockIdx.x * shape.frames;
  const int64_t* label = labels + base;
  int count = 0;  // segments so far; the same in every thread
  for (int first = 0; first < frames; first += kScanThreads) {
    const int t = first + threadIdx.x;
    const bool kept = t < length && !(options.drop && label[t] == options.blank);
    const bool start = kept && (t == 0 || label[t] != label[t - 1]);
    const int seen = count + block_scan(start, shared);
    if (t < frames) {
      segments[base + t] = kept ? seen - 1 : -1;
      if (!kept) weights[base + t] = 0.0f;
    }
    if (start) starts[base + seen - 1] = t;
    count = __syncthreads_count(start) + count;
  }
  if (count == 0 && length > 0) {
    // All blank: keep the frame with the best score of another label, the first of equals.
    Best best{-INFINITY, length};
    for (int t = threadIdx.x; near != nullptr && t < length; t += kScanThreads) {
      best.take(near[base + t], t);
    }
    best = warp_best(best);
    if (threadIdx.x % 32 == 0) {
      best_value[threadIdx.x / 32] = best.value;
      best_frame[threadIdx.x / 32] = best.index;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      for (int i = 1; i < kScanThreads / 32; ++i) best.take(best_value[i], best_frame[i]);
      const int kept = best.index < length ? best.index : 0;
      segments[base + kept] = 0;
      weights[base + kept] = 1.0f;
      starts[base] = kept;
    }
    count = 1;
  }
  if (threadIdx.x == 0) new_lengths[blockIdx.x] = count;
}

// One warp per output row: the weighted sum of a segment's frames, or zeros; then the frames' weights.
template <typename T, int VEC>
__global__ void __launch_bounds__(kThreads)
    reduce_kernel(ShrinkShape shape, Reduce reduce, const T* states, const int32_t* starts,
                  const int64_t* new_lengths, const int64_t* segments, float* weights, T* out) {
  const int64_t row = warp_index();
  if (row >= shape.clips * shape.frames) return;
  const int64_t clip = row / shape.frames, segment = row % shape.frames;
  const int lane = threadIdx.x % 32;
  const int width = static_cast<int>(shape.width);
  T* into = out + row * width;
  if (segment >= new_lengths[clip]) {
    const float zero[VEC] = {};
    for (int at = lane * VEC; at < width; at += 32 * VEC) store_vec<VEC>(into + at, zero);
    return;
  }
  const int frames = static_cast<int>(shape.frames), first = starts[row];
  const int64_t base = clip * shape.frames;
  // Frames of the run, and the sum of their probabilities.
  int count = 0;
  float total = 0.0f;
  for (int t = first; t < frames; t += 32) {
    const bool inside = t + lane < frames && segments[base + t + lane] == segment;
    if (inside && reduce == Reduce::weighted) total += weights[base + t + lane];
    const int found = __popc(__ballot_sync(kAll, inside));
    count += found;
    if (found < 32) break;
  }
  total = warp_sum(total);
  for (int i = lane; i < count; i += 32) {
    float& weight = weights[base + first + i];
    weight = reduce == Reduce::first ? (i == 0 ? 1.0f : 0.0f)
             : reduce == Reduce::mean ? 1.0f / static_cast<float>(count)
                                      : weight / total;
  }
  __syncwarp();
  const int used = reduce == Reduce::first ? 1 : count;
  const T* from = states + (base + first) * width;
  for (int at = lane * VEC; at < width; at += 32 * VEC) {
    float sum[VEC] = {};
    for (int i = 0; i < used; ++i) {
      float x[VEC];
      load_vec<VEC>(from + static_cast<int64_t>(i) * width + at, x);
      const float weight = weights[base + first + i];
#pragma unroll
      for (int j = 0; j < VEC; ++j) sum[j] += weight * x[j];
    }
    store_vec<VEC>(into + at, sum);
  }
}

// One warp per frame: its states' gradient, and with VEC-wide states the slope g . h of its weight.
template <typename T, int VEC>
__global__ void __launch_bounds__(kThreads)
    spread_kernel(ShrinkShape shape, const T* grad, const T* states, const int64_t* segments,
                  const float* weights, float* slopes, T* grad_states) {
  const int64_t frame = warp_index();
  if (frame >= shape.clips * shape.frames) return;
  const int lane = threadIdx.x % 32;
  const int width = static_cast<int>(shape.width);
  const int64_t segment = segments[frame];
  // A segment out of range, which no forward gives, must not lead out of bounds.
  const bool kept = segment >= 0 && segment < shape.frames;
  const float weight = kept ? weights[frame] : 0.0f;
  const T* shared = grad + (frame / shape.frames * shape.frames + (kept ? segment : 0)) * width;
  T* into = grad_states + frame * width;
  float slope = 0.0f;
  for (int at = lane * VEC; at < width; at += 32 * VEC) {
    float g[VEC] = {};
    if (kept) load_vec<VEC>(shared + at, g);
    if (kept && slopes != nullptr) {
      float h[VEC];
      load_vec<VEC>(states + frame * width + at, h);
#pragma unroll
      for (int i = 0; i < VEC; ++i) slope += g[i] * h[i];
    }
#pragma unroll
    for (int i = 0; i < VEC; ++i) g[i] = weight == 0.0f ? 0.0f : weight * g[i];
    store_vec<VEC>(into + at, g);
  }
  if (slopes == nullptr) return;
  slope = warp_sum(slope);
  if (lane == 0) slopes[frame] = slope;
}

// Sum of weight * slope over the frames of a run that lie from `t` in direction `step`, `t` included.
__device__ __forceinline__ float run_sum(const int64_t* segments, const float* weights,
                                         const float* slopes, int t, int step, int frames,
                                         int64_t segment) {
  const int lane = threadIdx.x % 32;
  float total = 0.0f;
  for (int first = t; first >= 0 && first < frames; first += 32 * step) {
    const int at = first + lane * step;
    const bool inside = at >= 0 && at < frames && segments[at] == segment;
    if (inside) total += weights[at] * slopes[at];
    if (__ballot_sync(kAll, inside) != kAll) break;
  }
  return total;
}

// One warp per frame: w_t (g . h_t - sum_u w_u g . h_u) through the softmax of its scores.
template <typename T, int VEC>
__global__ void __launch_bounds__(kThreads)
    scores_kernel(ShrinkShape shape, Scores scores, const int64_t* segments, const float* weights,
                  const float* slopes, T* grad_scores) {
  const int64_t frame = warp_index();
  if (frame >= shape.clips * shape.frames) return;
  const int64_t clip = frame / shape.frames, base = clip * shape.frames;
  const int t = static_cast<int>(frame - base), frames = static_cast<int>(shape.frames);
  const int lane = threadIdx.x % 32, width = static_cast<int>(scores.width);
  const int64_t segment = segments[frame];
  T* into = grad_scores + frame * width;
  const bool alone = (t == 0 || segments[frame - 1] != segment) &&
                     (t + 1 == frames || segments[frame + 1] != segment);
  if (segment < 0 || alone) {
    const float zero[VEC] = {};
    for (int at = lane * VEC; at < width; at += 32 * VEC) store_vec<VEC>(into + at, zero);
    return;
  }
  float mean = run_sum(segments + base, weights + base, slopes + base, t, 1, frames, segment);
  if (t > 0) {
    mean += run_sum(segments + base, weights + base, slopes + base, t - 1, -1, frames, segment);
  }
  mean = warp_sum(mean);
  const float slope = weights[frame] * (slopes[frame] - mean);
  const T* row = static_cast<const T*>(scores.data) + clip * scores.clip_stride +
                 t * scores.frame_stride;
  const Best best = row_best<VEC>(row, width, -1);
  const float scale = slope / row_sum_exp<VEC>(row, width, best.value);
  for (int at = lane * VEC; at < width; at += 32 * VEC) {
    float x[VEC];
    load_vec<VEC>(row + at, x);
#pragma unroll
    for (int i = 0; i < VEC; ++i) {
      x[i] = (at + i == best.index ? slope : 0.0f) - scale * __expf(x[i] - best.value);
    }
    store_vec<VEC>(into + at, x);
  }
}

// Sixteen bytes per access where every row starts at a multiple of them.
template <typename T>
bool vectors(const void* a, const void* b, int64_t stride, int64_t other_stride, int64_t width) {
  constexpr int n = 16 / sizeof(T);
  return aligned(a, 16) && aligned(b, 16) && stride % n == 0 && other_stride % n == 0 &&
         width % n == 0;
}

unsigned warp_blocks(const ShrinkShape& shape) {
  return static_cast<unsigned>((shape.clips * shape.frames + kWarps - 1) / kWarps);
}

}  // namespace

cudaError_t launch_ctc_shrink(const ShrinkShape& shape, const Options& options,
                              const ShrinkForward& call, cudaStream_t stream) {
  if (shape.clips == 0) return cudaSuccess;
  const unsigned blocks = warp_blocks(shape);
  const Scores& scores = call.scores;
  if (scores.data != nullptr && blocks > 0) {
    with_dtype(scores.dtype, [&](auto zero) {
      using T = decltype(zero);
      const bool wide = vectors<T>(scores.data, scores.data, scores.clip_stride, scores.frame_stride,
                                   scores.width);
      const auto kernel = wide ? label_kernel<T, 16 / sizeof(T)> : label_kernel<T, 1>;
      kernel<<<blocks, kThreads, 0, stream>>>(shape, scores, call.lengths,
                                              static_cast<int>(options.blank),
                                              options.reduce == Reduce::weighted, call.labels,
                                              call.near, call.weights);
    });
  }
  runs_kernel<<<static_cast<unsigned>(shape.clips), kScanThreads, 0, stream>>>(
      shape, options, call.labels, scores.data != nullptr ? call.near : nullptr, call.lengths,
      call.starts, call.new_lengths, call.segments, call.weights);
  if (blocks > 0) {
    with_dtype(call.states_dtype, [&](auto zero) {
      using T = decltype(zero);
      const bool wide = vectors<T>(call.states, call.out, 0, 0, shape.width);
      const auto kernel = wide ? reduce_kernel<T, 16 / sizeof(T)> : reduce_kernel<T, 1>;
      kernel<<<blocks, kThreads, 0, stream>>>(shape, options.reduce,
                                              static_cast<const T*>(call.states), call.starts,
                                              call.new_lengths, call.segments, call.weights,
                                              static_cast<T*>(call.out));
    });
  }
  return cudaGetLastError();
}

cudaError_t launch_ctc_shrink_backward(const ShrinkShape& shape, const ShrinkBackward& call,
                                       cudaStream_t stream) {
  const unsigned blocks = warp_blocks(shape);
  if (blocks == 0) return cudaSuccess;
  const Scores& scores = call.scores;
  with_dtype(call.states_dtype, [&](auto zero) {
    using T = decltype(zero);
    const bool wide = vectors<T>(call.grad, call.grad_states, 0, 0, shape.width) &&
                      aligned(call.states, 16);
    const auto kernel = wide ? spread_kernel<T, 16 / sizeof(T)> : spread_kernel<T, 1>;
    kernel<<<blocks, kThreads, 0, stream>>>(
        shape, static_cast<const T*>(call.grad), static_cast<const T*>(call.states), call.segments,
        call.weights, call.slopes, static_cast<T*>(call.grad_states));
  });
  if (scores.data != nullptr) {
    with_dtype(scores.dtype, [&](auto zero) {
      using T = decltype(zero);
      const bool wide = vectors<T>(scores.data, call.grad_scores, scores.clip_stride,
                                   scores.frame_stride, scores.width);
      const auto kernel = wide ? scores_kernel<T, 16 / sizeof(T)> : scores_kernel<T, 1>;
      kernel<<<blocks, kThreads, 0, stream>>>(shape, scores, call.segments, call.weights,
                                              call.slopes, static_cast<T*>(call.grad_scores));
    });
  }
  return cudaGetLastError();
}

}  // namespace stk
