// ctc_shrink on CUDA: checks, outputs, launch. Lengths stay on the device and are clamped there.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <optional>
#include <string>
#include <tuple>

#include "common/cuda_launch.h"
#include "ctc_shrink/ctc_shrink_checks.h"

namespace stk {
namespace {

Scores view_scores(const char* op, const at::Tensor& scores) {
  return {scores.const_data_ptr(), dtype_of(op, "scores", scores), scores.stride(0),
          scores.stride(1), scores.size(2)};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> ctc_shrink(
    const at::Tensor& states, const at::Tensor& given, const at::Tensor& lengths, int64_t blank,
    std::string reduce, std::string blanks) {
  constexpr const char* op = "ctc_shrink";
  check_on_cuda(op, "states", states);
  const Options options = check_inputs(states, given, lengths, blank, reduce, blanks);
  const c10::cuda::CUDAGuard guard(states.device());
  const bool has_scores = given.is_floating_point();
  const at::Tensor from = states.contiguous(), sizes = lengths.contiguous();
  const at::Tensor scores = has_scores ? rows_contiguous(given) : given;
  const int64_t clips = states.size(0), frames = states.size(1);
  const auto integers = lengths.options();
  const auto floats = states.options().dtype(at::kFloat);
  const at::Tensor out = at::empty(from.sizes(), from.options());
  const at::Tensor new_lengths = at::empty({clips}, integers);
  const at::Tensor segments = at::empty({clips, frames}, integers);
  const at::Tensor weights = at::empty({clips, frames}, floats);
  const at::Tensor labels =
      has_scores ? at::empty({clips, frames}, integers) : given.to(at::kLong).contiguous();
  const at::Tensor near = at::empty({has_scores ? clips : 0, frames}, floats);
  const at::Tensor starts = at::empty({clips, frames}, integers.dtype(at::kInt));
  const ShrinkForward call{has_scores ? view_scores(op, scores) : Scores{},
                           from.const_data_ptr(),
                           dtype_of(op, "states", states),
                           sizes.const_data_ptr<int64_t>(),
                           static_cast<int64_t*>(labels.data_ptr()),
                           near.mutable_data_ptr<float>(),
                           starts.mutable_data_ptr<int32_t>(),
                           out.mutable_data_ptr(),
                           new_lengths.mutable_data_ptr<int64_t>(),
                           segments.mutable_data_ptr<int64_t>(),
                           weights.mutable_data_ptr<float>()};
  check_launch(op, launch_ctc_shrink({clips, frames, states.size(2)}, options, call,
                                     stream_of(states)));
  return {out, new_lengths, segments, weights};
}

std::tuple<at::Tensor, at::Tensor> ctc_shrink_backward(const at::Tensor& grad,
                                                       const std::optional<at::Tensor>& states,
                                                       const std::optional<at::Tensor>& scores,
                                                       const at::Tensor& segments,
                                                       const at::Tensor& weights) {
  constexpr const char* op = "ctc_shrink_backward";
  check_on_cuda(op, "grad", grad);
  check_backward(grad, states, scores, segments, weights);
  check_dtype(op, "weights", weights, weights.scalar_type() == at::kFloat, "fp32");
  const c10::cuda::CUDAGuard guard(grad.device());
  const at::Tensor from = grad.contiguous(), map = segments.contiguous();
  const at::Tensor shares = weights.contiguous();
  const at::Tensor grad_states = at::empty(from.sizes(), from.options());
  at::Tensor grad_scores = at::empty({0}, grad.options()), rows, wide, slopes;
  ShrinkBackward call{};
  if (scores) {
    check_dtype(op, "states", *states, states->scalar_type() == grad.scalar_type(), "that of grad");
    rows = states->contiguous();
    wide = rows_contiguous(*scores);
    slopes = at::empty(shares.sizes(), shares.options());
    grad_scores = at::empty(wide.sizes(), wide.options().memory_format(at::MemoryFormat::Contiguous));
    call.states = rows.const_data_ptr();
    call.scores = view_scores(op, wide);
    call.slopes = slopes.mutable_data_ptr<float>();
    call.grad_scores = grad_scores.mutable_data_ptr();
  }
  call.grad = from.const_data_ptr();
  call.states_dtype = dtype_of(op, "grad", grad);
  call.segments = map.const_data_ptr<int64_t>();
  call.weights = shares.const_data_ptr<float>();
  call.grad_states = grad_states.mutable_data_ptr();
  check_launch(op, launch_ctc_shrink_backward({grad.size(0), grad.size(1), grad.size(2)}, call,
                                              stream_of(grad)));
  return {grad_states, grad_scores};
}

}  // namespace

TORCH_LIBRARY_IMPL(stk, CUDA, m) {
  m.impl("ctc_shrink", ctc_shrink);
  m.impl("ctc_shrink_backward", ctc_shrink_backward);
}

}  // namespace stk
