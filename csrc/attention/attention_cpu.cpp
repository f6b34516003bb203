// Prefix attention on the CPU: checks, tensors and the choice of instruction set.
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <tuple>

#include "attention/attention_check.h"
#include "attention/attention_cpu_problem.h"
#include "common/simd.h"

#define STK_AVX2_REGION
STK_AVX2_BEGIN
namespace stk::prefix_attention::avx2 {
#include "common/simd_philox.h"
#include "attention/attention_cpu_tiles.h"
#include "attention/attention_cpu_forward.h"
#include "attention/attention_cpu_backward.h"
#include "attention/attention_cpu_few.h"
}  // namespace stk::prefix_attention::avx2
STK_AVX2_END
#undef STK_AVX2_REGION
namespace stk::prefix_attention::baseline {
#include "common/simd_philox.h"
#include "attention/attention_cpu_tiles.h"
#include "attention/attention_cpu_forward.h"
#include "attention/attention_cpu_backward.h"
#include "attention/attention_cpu_few.h"
}  // namespace stk::prefix_attention::baseline

namespace stk::prefix_attention {
namespace {

using Optional = std::optional<at::Tensor>;

// Queries up to which keys are read where they lie instead of being packed first.
constexpr int64_t kFewQueries = 4;
// Multiplications below which another thread costs more than it brings.
constexpr int64_t kThreadWork = 1 << 17;

void check_range(const char* name, const at::Tensor& counts, int64_t limit) {
  const int64_t* values = counts.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < counts.numel(); ++i) {
    TORCH_CHECK_VALUE(values[i] >= 0 && values[i] <= limit, kOp, ": ", name, " has the value ",
                      values[i], " at position ", i, " but expected 0 to ", limit);
  }
}

// The counts as dense int64 (the tensors keep what the pointers point at).
struct Counts {
  at::Tensor visible, query_lengths;

  Counts(const Optional& seen, const Optional& lengths, int64_t query_count, int64_t key_count) {
    if (seen) {
      visible = seen->to(at::kLong).contiguous();
      check_range("visible", visible, key_count);
    }
    if (lengths) {
      query_lengths = lengths->to(at::kLong).contiguous();
      check_range("query_lengths", query_lengths, query_count);
    }
  }

  void apply(Shape& shape) const {
    if (visible.defined()) {
      shape.visible = visible.const_data_ptr<int64_t>();
      if (visible.dim() == 1) {
        shape.visible_batch = 1;
      } else {
        shape.visible_batch = visible.size(0) == 1 ? 0 : visible.size(1);
        shape.visible_query = 1;
      }
    }
    if (query_lengths.defined()) shape.query_lengths = query_lengths.const_data_ptr<int64_t>();
  }
};

Dropout dropout_of(double p, const Optional& seed, const Optional& offset, const at::Tensor& query) {
  Dropout dropout;
  dropout.threshold = dropout_threshold(p);
  if (!dropout.on()) return dropout;
  TORCH_CHECK_VALUE(seed && offset, kOp, ": dropout needs seed and offset");
  const Seed given = seed_argument(kOp, *seed, *offset, query, "query");
  dropout.seed = given.key();
  dropout.offset = given.stream();
  dropout.factor = 1.0 / (1.0 - p);
  return dropout;
}

void fill_shape(Shape& s, const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                double scale, const Counts& counts, const Dropout& dropout) {
  s.batch = query.size(0), s.heads = query.size(1);
  s.query_count = query.size(2), s.key_count = key.size(2);
  s.width = query.size(3), s.value_width = value.size(3);
  s.scale = scale;
  s.dropout = dropout;
  counts.apply(s);
}

int64_t grain(int64_t work_of_one) {
  return std::max<int64_t>(1, kThreadWork / std::max<int64_t>(1, work_of_one));
}

template <typename S>
void run_forward(const Forward<S>& p) {
  const bool few = p.query_count <= kFewQueries;
  const bool fast = has_avx2();
  const int64_t block = few ? 1 : avx2::kQueryBlock;
  const int64_t tasks = p.batch * p.heads * (few ? 1 : (p.query_count + block - 1) / block);
  const int64_t work = std::min(p.query_count, block) * p.key_count * (p.width + p.value_width);
  at::parallel_for(0, tasks, grain(work), [&](int64_t begin, int64_t end) {
    if (few) {
      fast ? avx2::few_queries<S>(p, begin, end) : baseline::few_queries<S>(p, begin, end);
    } else {
      fast ? avx2::forward_heads<S>(p, begin, end) : baseline::forward_heads<S>(p, begin, end);
    }
  });
}

template <typename S>
void run_backward(const Backward<S>& p) {
  const bool fast = has_avx2();
  const int64_t work = p.query_count * p.key_count * 5 * p.width;
  at::parallel_for(0, p.batch * p.heads, grain(work), [&](int64_t begin, int64_t end) {
    fast ? avx2::backward_heads<S>(p, begin, end) : baseline::backward_heads<S>(p, begin, end);
  });
}

std::tuple<at::Tensor, at::Tensor> attention_cpu(const at::Tensor& query_in, const at::Tensor& key_in,
                                                 const at::Tensor& value_in, const Optional& visible,
                                                 const Optional& query_lengths, const Optional& seed,
                                                 const Optional& offset, double scale,
                                                 double dropout_p) {
  check_inputs(query_in, key_in, value_in, visible, query_lengths, dropout_p);
  const at::Tensor query = dense_rows(query_in), key = dense_rows(key_in), value = dense_rows(value_in);
  const Counts counts(visible, query_lengths, query.size(2), key.size(2));
  const Dropout dropout = dropout_of(dropout_p, seed, offset, query);
  at::Tensor output = empty_heads(query, query.size(2), value.size(3));
  const auto wide = query.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  at::Tensor logsumexp = at::empty({query.size(0), query.size(1), query.size(2)},
                                   query.options().dtype(wide));
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, query.scalar_type(), kOp, [&] {
    Forward<scalar_t> p;
    fill_shape(p, query, key, value, scale, counts, dropout);
    p.query = heads_of<const scalar_t>(query);
    p.key = heads_of<const scalar_t>(key);
    p.value = heads_of<const scalar_t>(value);
    p.output = heads_of<scalar_t>(output);
    p.logsumexp = logsumexp.mutable_data_ptr<float_of<scalar_t>>();
    run_forward<scalar_t>(p);
  });
  return {output, logsumexp};
}

at::Tensor attention_inference_cpu(const at::Tensor& query, const at::Tensor& key,
                                   const at::Tensor& value, const Optional& visible,
                                   const Optional& query_lengths, const Optional& seed,
                                   const Optional& offset, double scale, double dropout_p) {
  return std::get<0>(attention_cpu(query, key, value, visible, query_lengths, seed, offset, scale,
                                   dropout_p));
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> attention_backward_cpu(
    const at::Tensor& grad_in, const at::Tensor& query_in, const at::Tensor& key_in,
    const at::Tensor& value_in, const at::Tensor& output_in, const at::Tensor& logsumexp_in,
    const Optional& visible, const Optional& query_lengths, const Optional& seed,
    const Optional& offset, double scale, double dropout_p) {
  check_inputs(query_in, key_in, value_in, visible, query_lengths, dropout_p);
  const at::Tensor query = dense_rows(query_in), key = dense_rows(key_in), value = dense_rows(value_in);
  TORCH_CHECK_VALUE(grad_in.sizes() == output_in.sizes(), kOp, ": grad has shape ", grad_in.sizes(),
                    " but expected ", output_in.sizes());
  const at::Tensor grad = dense_rows(grad_in), output = dense_rows(output_in);
  const at::Tensor logsumexp = logsumexp_in.contiguous();
  const Counts counts(visible, query_lengths, query.size(2), key.size(2));
  const Dropout dropout = dropout_of(dropout_p, seed, offset, query);
  at::Tensor query_grad = empty_heads(query, query.size(2), query.size(3));
  at::Tensor key_grad = empty_heads(key, key.size(2), key.size(3));
  at::Tensor value_grad = empty_heads(value, value.size(2), value.size(3));
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, query.scalar_type(), kOp, [&] {
    Backward<scalar_t> p;
    fill_shape(p, query, key, value, scale, counts, dropout);
    p.query = heads_of<const scalar_t>(query);
    p.key = heads_of<const scalar_t>(key);
    p.value = heads_of<const scalar_t>(value);
    p.output = heads_of<const scalar_t>(output);
    p.grad = heads_of<const scalar_t>(grad);
    p.logsumexp = logsumexp.const_data_ptr<float_of<scalar_t>>();
    p.query_grad = heads_of<scalar_t>(query_grad);
    p.key_grad = heads_of<scalar_t>(key_grad);
    p.value_grad = heads_of<scalar_t>(value_grad);
    run_backward<scalar_t>(p);
  });
  return {query_grad, key_grad, value_grad};
}

}  // namespace
}  // namespace stk::prefix_attention

TORCH_LIBRARY_IMPL(stk, CPU, m) {
  m.impl("attention", &stk::prefix_attention::attention_cpu);
  m.impl("attention_inference", &stk::prefix_attention::attention_inference_cpu);
  m.impl("attention_backward", &stk::prefix_attention::attention_backward_cpu);
}
