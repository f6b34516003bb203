// Work on one chunk of logits for gumbel_vq_cpu.cpp: choosing codes, differentiating, and what follows
// from the codes. The loops are in gumbel_vq_body.h.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <tuple>
#include <vector>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "common/checks.h"
#include "common/simd.h"
#include "gumbel_vq/gumbel_vq_checks.h"

namespace stk {
namespace {

typedef uint64_t U4 __attribute__((vector_size(32)));

// Noise of this call; `on` is false in evaluation. `scale` is 1 / tau.
template <typename T>
struct Noise {
  bool on;
  T scale;
  uint64_t seed, stream;
};

constexpr int64_t kPadding = 48;  // lanes that a line's buffers may be overrun by
constexpr int64_t kFlush = 128;   // lines whose probabilities are summed in fp32

}  // namespace
}  // namespace stk

STK_AVX2_BEGIN
namespace stk {
namespace {
namespace avx2 {
// Low 32 bits of each lane, multiplied to 64.
STK_INLINE U4 multiply32(U4 a, U4 b) {
#if defined(__x86_64__)
  return reinterpret_cast<U4>(
      _mm256_mul_epu32(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
#else
  return (a & 0xffffffff) * (b & 0xffffffff);
#endif
}
#include "common/simd_math.h"
#include "gumbel_vq/gumbel_vq_body.h"
}  // namespace avx2
}  // namespace
}  // namespace stk
STK_AVX2_END

namespace stk {
namespace {
namespace baseline {
STK_INLINE U4 multiply32(U4 a, U4 b) { return (a & 0xffffffff) * (b & 0xffffffff); }
#include "common/simd_math.h"
#include "gumbel_vq/gumbel_vq_body.h"
}  // namespace baseline

#define STK_PICK(function, ...) \
  (has_avx2() ? avx2::function(__VA_ARGS__) : baseline::function(__VA_ARGS__))

using MaybeTensor = std::optional<at::Tensor>;

at::ScalarType work_type(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

template <typename T>
Noise<T> read_noise(const char* op, const at::Tensor& tau, const at::Tensor& seed,
                    const at::Tensor& offset, bool training, const at::Tensor& like) {
  const float value = scalar_argument<float>(op, "tau", tau, like, "the input").get();
  TORCH_CHECK_VALUE(std::isfinite(value) && value > 0.0f, op, ": tau is ", value,
                    " but expected a finite number > 0");
  const Seed pair = seed_argument(op, seed, offset, like, "the input");
  return {training, T(1) / T(value), pair.key(), pair.stream()};
}

// Contiguous ranges of `count` items, one per thread, so that sums do not depend on timing.
template <typename Work>
void each_thread(int64_t count, const Work& work) {
  const int64_t threads = std::max<int64_t>(1, std::min<int64_t>(at::get_num_threads(), count));
  at::parallel_for(0, threads, 1, [&](int64_t first, int64_t last) {
    for (int64_t t = first; t < last; ++t) {
      work(t, count * t / threads, count * (t + 1) / threads);
    }
  });
}

// Rows per chunk so that a chunk's logits take about `bytes`.
int64_t chunk_rows(const VqShape& shape, int64_t bytes, int64_t item) {
  return std::max<int64_t>(1, bytes / (shape.groups * shape.codes * item));
}

constexpr int64_t kCacheBytes = 512 << 10;       // per thread, logits given: stays in its cache
constexpr int64_t kProjectedBytes = 128 << 20;   // logits computed: large enough for the products

// ---- forward ------------------------------------------------------------------------------------

struct Outputs {
  at::Tensor vectors, codes, mean_probs, code_counts, stats;

  std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> tuple() const {
    return {vectors, codes, mean_probs, code_counts, stats};
  }
};

Outputs make_outputs(const VqShape& shape, const at::Tensor& like, const at::Tensor& codebook) {
  const auto work = like.options().dtype(work_type(like));
  const auto integers = like.options().dtype(at::kLong);
  return {at::empty({shape.rows, shape.groups * shape.width}, codebook.options()),
          at::empty({shape.rows, shape.groups}, integers),
          at::zeros({shape.groups, shape.codes}, work),
          at::zeros({shape.groups, shape.codes}, integers),
          at::empty({shape.rows, shape.groups, kStats}, work)};
}

// Forward of the rows in `logits` (n, G * V), which start at row `first`; adds to `probs` per thread.
template <typename T>
void choose(const char* op, const VqShape& shape, const Noise<T>& noise, const at::Tensor& logits,
            int64_t first, const Outputs& out, std::vector<std::vector<double>>& probs) {
  const T* from = logits.const_data_ptr<T>();
  const int64_t base = first * shape.groups;
  int64_t* codes = out.codes.mutable_data_ptr<int64_t>() + base;
  T* stats = out.stats.mutable_data_ptr<T>() + base * kStats;
  std::atomic<bool> finite{true};
  each_thread(logits.size(0) * shape.groups, [&](int64_t thread, int64_t begin, int64_t end) {
    std::vector<T> scratch((2 + shape.groups) * (shape.codes + kPadding), T(0));
    std::vector<double>& sums = probs[thread];
    sums.resize(shape.groups * shape.codes, 0.0);
    if (!STK_PICK(choose_lines, shape, noise, from, base, begin, end, scratch.data(), codes, stats,
                  sums.data())) {
      finite = false;
    }
  });
  TORCH_CHECK_VALUE(finite, op, ": logits have a non-finite value");
}

// Everything that follows from the codes and the per-thread sums of probabilities.
template <typename T>
void finish_forward(const VqShape& shape, const at::Tensor& codebook, const Outputs& out,
                    const std::vector<std::vector<double>>& probs) {
  const int64_t size = shape.groups * shape.codes, lines = shape.lines();
  const int64_t* codes = out.codes.const_data_ptr<int64_t>();
  T* mean = out.mean_probs.mutable_data_ptr<T>();
  for (int64_t i = 0; i < size && lines > 0; ++i) {
    double total = 0.0;
    for (const std::vector<double>& sums : probs) total += sums.empty() ? 0.0 : sums[i];
    mean[i] = static_cast<T>(total / static_cast<double>(shape.rows));
  }
  int64_t* counts = out.code_counts.mutable_data_ptr<int64_t>();
  for (int64_t line = 0; line < lines; ++line) {
    ++counts[line % shape.groups * shape.codes + codes[line]];
  }
  const at::Tensor table = codebook.contiguous();
  const int64_t bytes = shape.width * table.element_size();
  const char* from = static_cast<const char*>(table.const_data_ptr());
  char* into = static_cast<char*>(out.vectors.mutable_data_ptr());
  at::parallel_for(0, lines, 1 + 32768 / bytes, [&](int64_t begin, int64_t end) {
    for (int64_t line = begin; line < end; ++line) {
      const int64_t entry = line % shape.groups * shape.codes + codes[line];
      std::memcpy(into + line * bytes, from + entry * bytes, bytes);
    }
  });
}

// ---- backward -----------------------------------------------------------------------------------

// What a backward call needs besides logits: work-dtype gradients, and the codebook where it matters.
struct Saved {
  at::Tensor vectors, mean, codebook, codes, stats;  // vectors, mean: undefined where absent
  bool soft;
};

Saved save(const VqShape& shape, const MaybeTensor& grad_vectors, const MaybeTensor& grad_probs,
           const at::Tensor& codebook, const at::Tensor& codes, const at::Tensor& stats,
           at::ScalarType work, bool training) {
  Saved saved;
  if (grad_vectors) saved.vectors = grad_vectors->to(work).contiguous();
  if (grad_probs) saved.mean = grad_probs->to(work).div(std::max<int64_t>(shape.rows, 1)).contiguous();
  saved.soft = training && grad_vectors;
  if (saved.soft) saved.codebook = codebook.to(work);
  saved.codes = codes.contiguous();
  saved.stats = stats.contiguous();
  return saved;
}

// Fills `grad` (n, G * V) with the gradient of the logits of rows first..first + n.
template <typename T>
void differentiate(const VqShape& shape, const Noise<T>& noise, const Saved& saved,
                   const at::Tensor& logits, int64_t first, const at::Tensor& grad) {
  const int64_t rows = logits.size(0), base = first * shape.groups;
  for (int64_t g = 0; saved.soft && g < shape.groups; ++g) {
    at::Tensor into = grad.narrow(1, g * shape.codes, shape.codes);
    at::mm_out(into, saved.vectors.narrow(0, first, rows).narrow(1, g * shape.width, shape.width),
               saved.codebook.select(0, g).t());
  }
  const T* from = logits.const_data_ptr<T>();
  const T* stats = saved.stats.const_data_ptr<T>() + base * kStats;
  const T* mean = saved.mean.defined() ? saved.mean.const_data_ptr<T>() : nullptr;
  T* into = grad.mutable_data_ptr<T>();
  each_thread(rows * shape.groups, [&](int64_t, int64_t begin, int64_t end) {
    std::vector<T> scratch(3 * (shape.codes + kPadding), T(0));
    STK_PICK(differentiate_lines, shape, noise, from, base, begin, end, scratch.data(), stats,
             saved.soft, mean, into);
  });
}

// Gradient of the codebook: every entry sums the gradients of the rows that chose it, in their order.
template <typename T>
at::Tensor codebook_gradient(const VqShape& shape, const Saved& saved, const at::Tensor& codebook) {
  const int64_t size = shape.groups * shape.codes, lines = shape.lines(), width = shape.width;
  const at::Tensor out = at::empty(codebook.sizes(), codebook.options().dtype(saved.vectors.dtype()));
  const int64_t* codes = saved.codes.const_data_ptr<int64_t>();
  const T* from = saved.vectors.const_data_ptr<T>();
  T* into = out.mutable_data_ptr<T>();
  const auto entry_of = [&](int64_t line) {
    return line % shape.groups * shape.codes + std::clamp<int64_t>(codes[line], 0, shape.codes - 1);
  };
  std::vector<int64_t> begins(size + 1, 0), order(lines);
  for (int64_t line = 0; line < lines; ++line) ++begins[entry_of(line) + 1];
  for (int64_t entry = 0; entry < size; ++entry) begins[entry + 1] += begins[entry];
  std::vector<int64_t> next(begins.begin(), begins.end() - 1);
  for (int64_t line = 0; line < lines; ++line) order[next[entry_of(line)]++] = line;
  at::parallel_for(0, size, 1 + 8192 / width, [&](int64_t first, int64_t last) {
    for (int64_t entry = first; entry < last; ++entry) {
      T* row = into + entry * width;
      std::memset(row, 0, width * sizeof(T));
      for (int64_t i = begins[entry]; i < begins[entry + 1]; ++i) {
        const T* source = from + order[i] * width;
        for (int64_t d = 0; d < width; ++d) row[d] += source[d];
      }
    }
  });
  return out.to(codebook.scalar_type());
}

}  // namespace
}  // namespace stk
