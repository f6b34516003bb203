// Checks and views that the CPU and CUDA sides of attention share. Host code only.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <optional>

#include "common/checks.h"

namespace stk::prefix_attention {

constexpr const char* kOp = "stk.ops.attention";

inline void check_counts(const char* name, const at::Tensor& counts, const at::Tensor& query) {
  check_dtype(kOp, name, counts, counts.scalar_type() == at::kLong || counts.scalar_type() == at::kInt,
              "int64 or int32");
  check_device(kOp, name, counts, query, "query");
}

inline void check_inputs(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                         const std::optional<at::Tensor>& visible,
                         const std::optional<at::Tensor>& query_lengths, double dropout_p) {
  const bool known = query.is_floating_point();
  check_dtype(kOp, "query", query, known, "float32, float16, bfloat16 or float64");
  check_rank(kOp, "query", query, 4, "(B, H, Tq, d)");
  check_rank(kOp, "key", key, 4, "(B, H, Tk, d)");
  check_rank(kOp, "value", value, 4, "(B, H, Tk, dv)");
  check_dtype(kOp, "key", key, key.scalar_type() == query.scalar_type(), "that of query");
  check_dtype(kOp, "value", value, value.scalar_type() == query.scalar_type(), "that of query");
  check_device(kOp, "key", key, query, "query");
  check_device(kOp, "value", value, query, "query");
  for (const int64_t dim : {0, 1, 3}) check_size(kOp, "key", key, dim, query.size(dim), "that of query");
  for (const int64_t dim : {0, 1, 2}) check_size(kOp, "value", value, dim, key.size(dim), "that of key");
  TORCH_CHECK_VALUE(dropout_p >= 0.0 && dropout_p < 1.0, kOp, ": dropout_p is ", dropout_p,
                    " but expected 0 <= p < 1");
  const int64_t batch = query.size(0), count = query.size(2);
  if (visible) {
    const bool one = visible->dim() == 1 && visible->size(0) == batch;
    const bool two = visible->dim() == 2 && visible->size(1) == count &&
                     (visible->size(0) == batch || visible->size(0) == 1);
    TORCH_CHECK_VALUE(one || two, kOp, ": visible has shape ", visible->sizes(), " but expected (",
                      batch, ",), (1, ", count, ") or (", batch, ", ", count, ")");
    check_counts("visible", *visible, query);
  }
  if (query_lengths) {
    TORCH_CHECK_VALUE(query_lengths->dim() == 1 && query_lengths->size(0) == batch, kOp,
                      ": query_lengths has shape ", query_lengths->sizes(), " but expected (", batch,
                      ",)");
    check_counts("query_lengths", *query_lengths, query);
  }
}

// The kernels read rows of a dense last dimension.
inline at::Tensor dense_rows(const at::Tensor& tensor) {
  return tensor.stride(3) == 1 || tensor.size(3) == 1 ? tensor : tensor.contiguous();
}

// (B, H, T, width) that lies in memory as (B, T, H, width): merging the heads is then a view.
inline at::Tensor empty_heads(const at::Tensor& like, int64_t count, int64_t width) {
  return at::empty({like.size(0), count, like.size(1), width}, like.options()).transpose(1, 2);
}

// Bits below this are dropped; as stk/ops/reference/attention.py has it.
inline uint32_t dropout_threshold(double dropout_p) {
  return static_cast<uint32_t>(dropout_p * 4294967296.0);
}

}  // namespace stk::prefix_attention
