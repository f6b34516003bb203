// What both devices check about the arguments of gumbel_vq, shapes and dtypes alone. Host code.
#pragma once

#include <optional>

#include "common/checks.h"
#include "gumbel_vq/gumbel_vq.h"

namespace stk {

inline void check_float(const char* op, const char* name, const at::Tensor& tensor) {
  check_dtype(op, name, tensor, tensor.is_floating_point(), "fp32, fp16, bf16 or fp64");
}

inline void check_codebook(const char* op, const at::Tensor& codebook) {
  check_float(op, "codebook", codebook);
  check_rank(op, "codebook", codebook, 3, "(G, V, d)");
  TORCH_CHECK_VALUE(codebook.numel() > 0, op, ": codebook has shape ", codebook.sizes(),
                    " but expected no empty dimension");
}

inline VqShape check_logits(const char* op, const at::Tensor& logits, const at::Tensor& codebook) {
  check_codebook(op, codebook);
  check_float(op, "logits", logits);
  check_rank(op, "logits", logits, 3, "(N, G, V)");
  check_size(op, "logits", logits, 1, codebook.size(0), "the groups of codebook");
  check_size(op, "logits", logits, 2, codebook.size(1), "the codes of codebook");
  check_device(op, "codebook", codebook, logits, "logits");
  return {logits.size(0), codebook.size(0), codebook.size(1), codebook.size(2)};
}

inline VqShape check_projection(const char* op, const at::Tensor& hidden, const at::Tensor& weight,
                                const at::Tensor& bias, const at::Tensor& codebook) {
  check_codebook(op, codebook);
  check_float(op, "hidden", hidden);
  check_rank(op, "hidden", hidden, 2, "(N, D)");
  check_rank(op, "weight", weight, 2, "(G*V, D)");
  check_rank(op, "bias", bias, 1, "(G*V,)");
  const int64_t codes = codebook.size(0) * codebook.size(1);
  check_size(op, "weight", weight, 0, codes, "G*V of codebook");
  check_size(op, "weight", weight, 1, hidden.size(1), "the width of hidden");
  check_size(op, "bias", bias, 0, codes, "G*V of codebook");
  const auto dtype = hidden.scalar_type();
  check_dtype(op, "weight", weight, weight.scalar_type() == dtype, "that of hidden");
  check_dtype(op, "bias", bias, bias.scalar_type() == dtype, "that of hidden");
  check_device(op, "weight", weight, hidden, "hidden");
  check_device(op, "bias", bias, hidden, "hidden");
  check_device(op, "codebook", codebook, hidden, "hidden");
  return {hidden.size(0), codebook.size(0), codebook.size(1), codebook.size(2)};
}

// Gradients and saved tensors of a backward call; `like` has the device.
inline void check_saved(const char* op, const VqShape& shape,
                        const std::optional<at::Tensor>& grad_vectors,
                        const std::optional<at::Tensor>& grad_probs, const at::Tensor& codes,
                        const at::Tensor& stats, bool fp64, const at::Tensor& like) {
  const auto expect = [&](const char* name, const at::Tensor& tensor, at::IntArrayRef sizes) {
    TORCH_CHECK_VALUE(tensor.sizes() == sizes, op, ": ", name, " has shape ", tensor.sizes(),
                      " but expected ", sizes);
    check_device(op, name, tensor, like, "the logits");
  };
  if (grad_vectors) expect("grad_vectors", *grad_vectors, {shape.rows, shape.groups * shape.width});
  if (grad_probs) expect("grad_probs", *grad_probs, {shape.groups, shape.codes});
  expect("codes", codes, {shape.rows, shape.groups});
  expect("stats", stats, {shape.rows, shape.groups, kStats});
  check_dtype(op, "codes", codes, codes.scalar_type() == at::kLong, "int64");
  check_dtype(op, "stats", stats, stats.scalar_type() == (fp64 ? at::kDouble : at::kFloat),
              fp64 ? "fp64" : "fp32");
}

inline void check_wanted(const char* op, const std::optional<at::Tensor>& grad_vectors,
                         bool codebook_wanted) {
  TORCH_CHECK_VALUE(grad_vectors || !codebook_wanted, op,
                    ": the codebook's gradient needs grad_vectors");
}

}  // namespace stk
