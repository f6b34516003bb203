// What both devices check about the arguments of ctc_shrink, shapes and dtypes alone. Host code.
#pragma once

#include <optional>
#include <string>

#include "common/checks.h"
#include "ctc_shrink/ctc_shrink.h"

namespace stk {

inline Options check_inputs(const at::Tensor& states, const at::Tensor& given,
                            const at::Tensor& lengths, int64_t blank, const std::string& reduce,
                            const std::string& blanks) {
  constexpr const char* op = "ctc_shrink";
  check_rank(op, "states", states, 3, "(B, T, D)");
  check_dtype(op, "states", states, states.is_floating_point(), "fp32, fp16, bf16 or fp64");
  const bool scores = given.is_floating_point();
  const bool labels = given.scalar_type() == at::kLong || given.scalar_type() == at::kInt;
  check_dtype(op, "scores_or_labels", given, scores || labels,
              "floating scores or int64 or int32 labels");
  check_rank(op, "scores_or_labels", given, scores ? 3 : 2, scores ? "(B, T, V)" : "(B, T)");
  check_size(op, "scores_or_labels", given, 0, states.size(0), "the batch size of states");
  check_size(op, "scores_or_labels", given, 1, states.size(1), "the frames of states");
  check_device(op, "scores_or_labels", given, states, "states");
  check_lengths(op, "lengths", lengths, states, "states");
  TORCH_CHECK_VALUE(reduce == "first" || reduce == "mean" || reduce == "weighted", op,
                    ": reduce is ", reduce, " but expected first, mean or weighted");
  TORCH_CHECK_VALUE(blanks == "drop" || blanks == "merge", op, ": blanks is ", blanks,
                    " but expected drop or merge");
  TORCH_CHECK_VALUE(scores || reduce != "weighted", op, ": reduce weighted needs scores (B, T, V)");
  TORCH_CHECK_VALUE(!scores || (blank >= 0 && blank < given.size(2)), op, ": blank is ", blank,
                    " but expected 0 to ", scores ? given.size(2) - 1 : 0);
  return {reduce == "first" ? Reduce::first : reduce == "mean" ? Reduce::mean : Reduce::weighted,
          blanks == "drop", blank};
}

// Scores (B, T, V) whose last dimension is dense.
inline at::Tensor rows_contiguous(const at::Tensor& scores) {
  return scores.size(2) <= 1 || scores.stride(2) == 1 ? scores : scores.contiguous();
}

inline void check_backward(const at::Tensor& grad, const std::optional<at::Tensor>& states,
                           const std::optional<at::Tensor>& scores, const at::Tensor& segments,
                           const at::Tensor& weights) {
  constexpr const char* op = "ctc_shrink_backward";
  check_rank(op, "grad", grad, 3, "(B, T, D)");
  check_dtype(op, "segments", segments, segments.scalar_type() == at::kLong, "int64");
  check_dtype(op, "weights", weights,
              weights.scalar_type() == at::kFloat || weights.scalar_type() == at::kDouble,
              "fp32 or fp64");
  for (const at::Tensor* map : {&segments, &weights}) {
    TORCH_CHECK_VALUE(map->sizes() == grad.sizes().slice(0, 2), op, ": map has shape ",
                      map->sizes(), " but expected ", grad.sizes().slice(0, 2));
    check_device(op, "map", *map, grad, "grad");
  }
  TORCH_CHECK_VALUE(states.has_value() == scores.has_value(), op,
                    ": states and scores go together");
  if (!scores) return;
  TORCH_CHECK_VALUE(states->sizes() == grad.sizes(), op, ": states has shape ", states->sizes(),
                    " but expected ", grad.sizes());
  check_rank(op, "scores", *scores, 3, "(B, T, V)");
  TORCH_CHECK_VALUE(scores->sizes().slice(0, 2) == grad.sizes().slice(0, 2), op,
                    ": scores has shape ", scores->sizes(), " but expected (B, T, V) of grad ",
                    grad.sizes());
  check_device(op, "states", *states, grad, "grad");
  check_device(op, "scores", *scores, grad, "grad");
}

}  // namespace stk
