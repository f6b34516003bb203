// Argument checks whose messages name the argument, its shape and what was expected. Host code only.
// Shapes and dtypes raise ValueError and TypeError in Python.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <string>

#include "common/random.h"

namespace stk {

// Rank of `tensor`; `dims` spells the expected shape, such as "(B, T, D)".
inline void check_rank(const char* op, const char* name, const at::Tensor& tensor, int64_t rank,
                       const char* dims) {
  TORCH_CHECK_VALUE(tensor.dim() == rank, op, ": ", name, " has shape ", tensor.sizes(),
                    " but expected ", dims);
}

// Size of one dimension of `tensor`; `what` says what it has to match.
inline void check_size(const char* op, const char* name, const at::Tensor& tensor, int64_t dim,
                       int64_t size, const char* what) {
  TORCH_CHECK_VALUE(tensor.size(dim) == size, op, ": ", name, " has shape ", tensor.sizes(),
                    " but expected size ", size, " in dimension ", dim, " (", what, ")");
}

inline void check_dtype(const char* op, const char* name, const at::Tensor& tensor, bool allowed,
                        const char* expected) {
  TORCH_CHECK_TYPE(allowed, op, ": ", name, " has dtype ", tensor.scalar_type(), " but expected ",
                   expected);
}

inline void check_device(const char* op, const char* name, const at::Tensor& tensor,
                         const at::Tensor& like, const char* like_name) {
  TORCH_CHECK_VALUE(tensor.device() == like.device(), op, ": ", name, " is on ", tensor.device(),
                    " but ", like_name, " is on ", like.device());
}

// Lengths: int64, one per clip, beside `like` on its device. Values are checked by check_lengths_values.
inline void check_lengths(const char* op, const char* name, const at::Tensor& lengths,
                          const at::Tensor& like, const char* like_name) {
  check_rank(op, name, lengths, 1, "(B,)");
  check_dtype(op, name, lengths, lengths.scalar_type() == at::kLong, "int64");
  check_size(op, name, lengths, 0, like.size(0), "the batch size");
  check_device(op, name, lengths, like, like_name);
}

// CPU tensors only: every length between 0 and `limit`.
inline void check_lengths_values(const char* op, const char* name, const at::Tensor& lengths,
                                 int64_t limit) {
  const at::Tensor dense = lengths.contiguous();
  const int64_t* values = dense.const_data_ptr<int64_t>();
  for (int64_t row = 0; row < dense.numel(); ++row) {
    TORCH_CHECK_VALUE(values[row] >= 0 && values[row] <= limit, op, ": ", name, "[", row, "] is ",
                      values[row], " but expected 0 to ", limit);
  }
}

// 0-dim tensor -> Scalar; it is on the host, or on the device of `like`, where the kernel runs. The tensor
// must outlive the launch.
template <typename T>
inline Scalar<T> scalar_argument(const char* op, const char* name, const at::Tensor& tensor,
                                 const at::Tensor& like, const char* like_name) {
  if (!tensor.is_cpu()) check_device(op, name, tensor, like, like_name);
  TORCH_CHECK_VALUE(tensor.dim() == 0, op, ": ", name, " has shape ", tensor.sizes(),
                    " but expected a 0-dim tensor");
  check_dtype(op, name, tensor, tensor.scalar_type() == c10::CppTypeToScalarType<T>::value,
              c10::toString(c10::CppTypeToScalarType<T>::value));
  if (tensor.is_cpu()) return {*tensor.const_data_ptr<T>(), nullptr};
  return {T{}, tensor.const_data_ptr<T>()};
}

inline Seed seed_argument(const char* op, const at::Tensor& seed, const at::Tensor& offset,
                          const at::Tensor& like, const char* like_name) {
  return {scalar_argument<int64_t>(op, "seed", seed, like, like_name),
          scalar_argument<int64_t>(op, "offset", offset, like, like_name)};
}

}  // namespace stk
