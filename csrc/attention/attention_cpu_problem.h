// What one call of prefix attention on the CPU works on: pointers, strides and the prefix rule.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <type_traits>

#include "common/philox.h"

namespace stk::prefix_attention {

constexpr double kLog2E = 1.4426950408889634;

// Arithmetic and log-sum-exp type of storage type S.
template <typename S>
using float_of = std::conditional_t<std::is_same_v<S, double>, double, float>;

// A (B, H, T, width) tensor whose last dimension is dense.
template <typename S>
struct Heads {
  S* data = nullptr;
  int64_t count = 1, batch_stride = 0, head_stride = 0, row = 0;

  S* head(int64_t index) const {
    return data + (index / count) * batch_stride + (index % count) * head_stride;
  }
};

template <typename S>
Heads<S> heads_of(const at::Tensor& tensor) {
  using Plain = std::remove_const_t<S>;
  S* data;
  if constexpr (std::is_const_v<S>) {
    data = tensor.const_data_ptr<Plain>();
  } else {
    data = tensor.mutable_data_ptr<Plain>();
  }
  return {data, std::max<int64_t>(tensor.size(1), 1), tensor.stride(0), tensor.stride(1),
          tensor.stride(2)};
}

struct Dropout {
  uint64_t seed = 0, offset = 0;
  uint32_t threshold = 0;  // a weight is kept where its word is at least this
  double factor = 1.0;     // what a kept weight is multiplied by

  bool on() const { return threshold > 0; }
};

struct Shape {
  int64_t batch, heads, query_count, key_count, width, value_width;
  double scale;
  Dropout dropout;
  const int64_t* visible = nullptr;  // null: every key
  int64_t visible_batch = 0, visible_query = 0;
  const int64_t* query_lengths = nullptr;  // null: every query

  int64_t visible_keys(int64_t b, int64_t i) const {
    return visible ? visible[b * visible_batch + i * visible_query] : key_count;
  }
  int64_t real_queries(int64_t b) const { return query_lengths ? query_lengths[b] : query_count; }

  // Philox groups of one row of weights.
  uint64_t row_groups() const { return static_cast<uint64_t>((key_count + 3) / 4); }
};

template <typename S>
struct Forward : Shape {
  Heads<const S> query, key, value;
  Heads<S> output;
  float_of<S>* logsumexp;  // (B, H, Tq)
};

template <typename S>
struct Backward : Shape {
  Heads<const S> query, key, value, output, grad;
  const float_of<S>* logsumexp;
  Heads<S> query_grad, key_grad, value_grad;
};

// Working memory that a thread keeps: take() hands out pieces until reset().
class Arena {
 public:
  void reserve(int64_t bytes) {
    if (bytes > size_) data_.reset(new char[bytes + kAlign]), size_ = bytes;
    const auto start = reinterpret_cast<uintptr_t>(data_.get());
    next_ = data_.get() + (kAlign - start % kAlign) % kAlign;
  }
  template <typename T>
  T* take(int64_t count) {
    T* piece = reinterpret_cast<T*>(next_);
    next_ += bytes<T>(count);
    return piece;
  }
  template <typename T>
  static int64_t bytes(int64_t count) {
    return (count * static_cast<int64_t>(sizeof(T)) + kAlign - 1) / kAlign * kAlign;
  }

 private:
  static constexpr int64_t kAlign = 64;
  std::unique_ptr<char[]> data_;
  char* next_ = nullptr;
  int64_t size_ = 0;
};

inline Arena& arena() {
  static thread_local Arena mine;
  return mine;
}

}  // namespace stk::prefix_attention
