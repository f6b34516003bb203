// ctc_shrink on the CPU: labels of all frames, then the runs of every clip, then one output row per
// segment. Half-precision tensors are widened to fp32 first.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "common/checks.h"
#include "common/simd.h"
#include "ctc_shrink/ctc_shrink_checks.h"

namespace stk {
namespace {

// Scores (B, T, V) whose last dimension is contiguous.
template <typename T>
struct ScoreView {
  const T* data;
  int64_t clip_stride, frame_stride, frames, width;
  const int64_t* lengths;

  const T* row(int64_t clip, int64_t t) const {
    return data + clip * clip_stride + t * frame_stride;
  }
};

// The map that both directions use; `starts[b][s]` is the first frame of segment s.
template <typename T>
struct SegmentView {
  int64_t frames, width;
  const int64_t* counts;
  const int64_t* starts;
  const int64_t* segments;
  const T* weights;
};

}  // namespace
}  // namespace stk

STK_AVX2_BEGIN
namespace stk {
namespace {
namespace avx2 {
#include "common/simd_math.h"
#include "ctc_shrink/ctc_shrink_body.h"
}  // namespace avx2
}  // namespace
}  // namespace stk
STK_AVX2_END

namespace stk {
namespace {
namespace baseline {
#include "common/simd_math.h"
#include "ctc_shrink/ctc_shrink_body.h"
}  // namespace baseline

constexpr const char* kOp = "ctc_shrink";

#define STK_PICK(function, ...) \
  (has_avx2() ? avx2::function(__VA_ARGS__) : baseline::function(__VA_ARGS__))

at::Tensor widened(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kDouble ? tensor : tensor.to(at::kFloat);
}

template <typename T>
ScoreView<T> view_scores(const at::Tensor& scores, const int64_t* lengths) {
  return {scores.const_data_ptr<T>(), scores.stride(0), scores.stride(1), scores.size(1),
          scores.size(2), lengths};
}

template <typename T>
void label_all(const ScoreView<T>& view, int64_t clips, bool weighted, int64_t* labels, T* weights) {
  std::atomic<bool> finite{true};
  const int64_t grain = std::max<int64_t>(1, 32768 / std::max<int64_t>(1, view.width));
  at::parallel_for(0, clips * view.frames, grain, [&](int64_t begin, int64_t end) {
    if (!STK_PICK(label_frames, view, begin, end, weighted, labels, weights)) finite = false;
  });
  TORCH_CHECK_VALUE(finite, kOp, ": scores_or_labels has a non-finite score in a real frame");
}

// Runs of one clip of `length` frames: fills segments and starts, turns `weights` (for the weighted
// reduction: probabilities) into shares that sum to 1 over a segment. Returns the number of segments.
template <typename T, typename Rescue>
int64_t find_runs(const int64_t* labels, int64_t length, int64_t frames, const Options& options,
                  int64_t* segments, int64_t* starts, T* weights, const Rescue& rescue) {
  int64_t count = 0;
  std::fill(segments, segments + frames, int64_t(-1));
  const auto close = [&](int64_t first, int64_t last) {
    T total = 0;
    for (int64_t t = first; t < last; ++t) {
      segments[t] = count;
      if (options.reduce != Reduce::weighted) {
        weights[t] = options.reduce == Reduce::mean || t == first ? T(1) : T(0);
      }
      total += weights[t];
    }
    for (int64_t t = first; t < last; ++t) weights[t] /= total;
    starts[count++] = first;
  };
  for (int64_t first = 0, last; first < length; first = last) {
    last = first + 1;
    while (last < length && labels[last] == labels[first]) ++last;
    if (options.drop && labels[first] == options.blank) {
      std::fill(weights + first, weights + last, T(0));
    } else {
      close(first, last);
    }
  }
  std::fill(weights + length, weights + frames, T(0));
  if (count == 0 && length > 0) {
    const int64_t kept = rescue();
    weights[kept] = T(1);
    close(kept, kept + 1);
  }
  return count;
}

template <typename T>
void shrink(const at::Tensor& states, const at::Tensor& given, const at::Tensor& lengths,
            const Options& options, const at::Tensor& out, const at::Tensor& new_lengths,
            const at::Tensor& segments, const at::Tensor& weights) {
  const int64_t clips = states.size(0), frames = states.size(1);
  const int64_t* real = lengths.const_data_ptr<int64_t>();
  const bool has_scores = given.dim() == 3;
  const at::Tensor labels =
      has_scores ? at::empty({clips, frames}, lengths.options()) : given.to(at::kLong).contiguous();
  const at::Tensor starts = at::empty({clips, frames}, lengths.options());
  const int64_t* label = labels.const_data_ptr<int64_t>();
  int64_t* count = new_lengths.mutable_data_ptr<int64_t>();
  int64_t* start = starts.mutable_data_ptr<int64_t>();
  int64_t* segment = segments.mutable_data_ptr<int64_t>();
  T* weight = weights.mutable_data_ptr<T>();

  // fp64 states may come with fp32 scores and the other way round; probabilities follow the states.
  const at::Tensor scores = has_scores ? rows_contiguous(given.to(states.scalar_type())) : given;
  ScoreView<T> view{};
  if (has_scores) {
    view = view_scores<T>(scores, real);
    label_all(view, clips, options.reduce == Reduce::weighted, labels.mutable_data_ptr<int64_t>(),
              weight);
  }
  at::parallel_for(0, clips, 1, [&](int64_t begin, int64_t end) {
    for (int64_t clip = begin; clip < end; ++clip) {
      const int64_t at = clip * frames;
      count[clip] = find_runs(
          label + at, real[clip], frames, options, segment + at, start + at, weight + at,
          [&]() -> int64_t {
            return has_scores ? STK_PICK(nearest_to_speech, view, clip, options.blank) : 0;
          });
    }
  });
  const int64_t width = states.size(2);
  const SegmentView<T> map{frames, width, count, start, segment, weight};
  const T* from = states.const_data_ptr<T>();
  T* into = out.mutable_data_ptr<T>();
  const int64_t grain = std::max<int64_t>(1, 32768 / std::max<int64_t>(1, width));
  at::parallel_for(0, clips * frames, grain, [&](int64_t begin, int64_t end) {
    STK_PICK(reduce_rows, map, begin, end, from, into);
  });
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> ctc_shrink(
    const at::Tensor& states, const at::Tensor& given, const at::Tensor& lengths, int64_t blank,
    std::string reduce, std::string blanks) {
  const Options options = check_inputs(states, given, lengths, blank, reduce, blanks);
  check_lengths_values(kOp, "lengths", lengths, states.size(1));
  const at::Tensor wide = widened(states).contiguous();
  const at::Tensor out = at::empty(wide.sizes(), wide.options());
  const at::Tensor new_lengths = at::empty(lengths.sizes(), lengths.options());
  const at::Tensor segments = at::empty({states.size(0), states.size(1)}, lengths.options());
  const at::Tensor weights = at::empty(segments.sizes(), wide.options());
  const auto run = wide.scalar_type() == at::kDouble ? shrink<double> : shrink<float>;
  run(wide, given, lengths.contiguous(), options, out, new_lengths, segments, weights);
  return {out.to(states.scalar_type()), new_lengths, segments, weights};
}

template <typename T>
void spread(const at::Tensor& grad, const at::Tensor& segments, const at::Tensor& weights,
            const at::Tensor& out) {
  const int64_t frames = segments.size(1), width = grad.size(2);
  const T* from = grad.const_data_ptr<T>();
  const int64_t* segment = segments.const_data_ptr<int64_t>();
  const T* weight = weights.const_data_ptr<T>();
  T* into = out.mutable_data_ptr<T>();
  const int64_t grain = std::max<int64_t>(1, 32768 / std::max<int64_t>(1, width));
  at::parallel_for(0, segments.numel(), grain, [&](int64_t begin, int64_t end) {
    for (int64_t frame = begin; frame < end; ++frame) {
      T* row = into + frame * width;
      // A segment out of range, which no forward gives, must not lead out of bounds.
      const bool inside = segment[frame] >= 0 && segment[frame] < frames;
      if (weight[frame] == T(0) || !inside) {
        std::memset(row, 0, width * sizeof(T));
        continue;
      }
      const T* source = from + (frame / frames * frames + segment[frame]) * width;
      for (int64_t i = 0; i < width; ++i) row[i] = weight[frame] * source[i];
    }
  });
}

template <typename T>
void score_gradients(const at::Tensor& grad, const at::Tensor& states, const at::Tensor& scores,
                     const at::Tensor& segments, const at::Tensor& weights, const at::Tensor& out) {
  const int64_t frames = segments.size(1), width = states.size(2);
  const ScoreView<T> view = view_scores<T>(scores, nullptr);
  const int64_t* segment = segments.const_data_ptr<int64_t>();
  at::parallel_for(0, segments.size(0), 1, [&](int64_t begin, int64_t end) {
    for (int64_t clip = begin; clip < end; ++clip) {
      const int64_t* run = segment + clip * frames;
      T* into = out.mutable_data_ptr<T>() + clip * frames * view.width;
      for (int64_t first = 0, last; first < frames; first = last) {
        last = first + 1;
        while (last < frames && run[last] == run[first]) ++last;
        if (run[first] < 0 || run[first] >= frames) {
          std::memset(into + first * view.width, 0, (last - first) * view.width * sizeof(T));
          continue;
        }
        const T* shared = grad.const_data_ptr<T>() + (clip * frames + run[first]) * width;
        STK_PICK(score_gradient, view, clip, first, last, shared,
                 states.const_data_ptr<T>() + clip * frames * width, width,
                 weights.const_data_ptr<T>() + clip * frames, into);
      }
    }
  });
}

std::tuple<at::Tensor, at::Tensor> ctc_shrink_backward(const at::Tensor& grad,
                                                       const std::optional<at::Tensor>& states,
                                                       const std::optional<at::Tensor>& scores,
                                                       const at::Tensor& segments,
                                                       const at::Tensor& weights) {
  check_backward(grad, states, scores, segments, weights);
  const bool twice = weights.scalar_type() == at::kDouble;
  const at::Tensor wide = grad.to(weights.scalar_type()).contiguous();
  const at::Tensor map = segments.contiguous(), shares = weights.contiguous();
  const at::Tensor grad_states = at::empty(wide.sizes(), wide.options());
  (twice ? spread<double> : spread<float>)(wide, map, shares, grad_states);
  if (!scores) return {grad_states.to(grad.scalar_type()), at::empty({0}, grad.options())};
  const at::Tensor logits = rows_contiguous(scores->to(wide.scalar_type()));
  const at::Tensor grad_scores = at::empty(logits.sizes(), wide.options());
  (twice ? score_gradients<double> : score_gradients<float>)(
      wide, states->to(wide.scalar_type()).contiguous(), logits, map, shares, grad_scores);
  return {grad_states.to(grad.scalar_type()), grad_scores.to(scores->scalar_type())};
}

}  // namespace

TORCH_LIBRARY_IMPL(stk, CPU, m) {
  m.impl("ctc_shrink", ctc_shrink);
  m.impl("ctc_shrink_backward", ctc_shrink_backward);
}

}  // namespace stk
