// gumbel_vq and gumbel_vq_linear on CUDA: checks, matrix products, launches. For the projected form the
// logits of one chunk of rows are the only ones in memory, fp32 whatever the operands are.
#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <optional>
#include <tuple>

#include "common/cuda_launch.h"
#include "gumbel_vq/gumbel_vq_checks.h"

namespace stk {
namespace {

using MaybeTensor = std::optional<at::Tensor>;
using Five = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;
using Four = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

constexpr int64_t kChunkBytes = int64_t{640} << 20;  // fp32 logits of one chunk of rows

// A call's surroundings: the inputs' device, and products in the dtypes chosen here.
struct Scope {
  c10::cuda::CUDAGuard device;
  c10::impl::ExcludeDispatchKeyGuard autocast{c10::autocast_dispatch_keyset};

  Scope(const char* op, const char* name, const at::Tensor& like) : device(checked(op, name, like)) {}

  static c10::Device checked(const char* op, const char* name, const at::Tensor& like) {
    check_on_cuda(op, name, like);
    return like.device();
  }
};

VqNoise read_noise(const char* op, const at::Tensor& tau, const at::Tensor& seed,
                   const at::Tensor& offset, bool training, const at::Tensor& like) {
  const Scalar<float> value = scalar_argument<float>(op, "tau", tau, like, "the input");
  TORCH_CHECK_VALUE(!tau.is_cpu() || value.host > 0.0f, op, ": tau is ", value.host,
                    " but expected a finite number > 0");
  return {training, value, seed_argument(op, seed, offset, like, "the input")};
}

// a @ b in fp32, whatever their dtype.
at::Tensor product(const at::Tensor& a, const at::Tensor& b) {
  return a.scalar_type() == at::kFloat ? at::mm(a, b) : at::mm(a, b, at::kFloat);
}

struct Outputs {
  at::Tensor vectors, codes, mean_probs, code_counts, stats, partials;

  Five tuple() const { return {vectors, codes, mean_probs, code_counts, stats}; }
};

Outputs make_outputs(const VqShape& shape, int64_t chunk, const at::Tensor& like,
                     const at::Tensor& codebook) {
  const auto floats = like.options().dtype(at::kFloat), integers = like.options().dtype(at::kLong);
  const VqShape first{std::min(chunk, shape.rows), shape.groups, shape.codes, shape.width};
  const int64_t partials = vq_partials(first);
  return {at::empty({shape.rows, shape.groups * shape.width}, codebook.options()),
          at::empty({shape.rows, shape.groups}, integers),
          at::empty({shape.groups, shape.codes}, floats),
          at::zeros({shape.groups, shape.codes}, integers),
          at::empty({shape.rows, shape.groups, kStats}, floats),
          at::zeros({partials, shape.groups, shape.codes}, floats)};
}

// Codes, stats, counts and sums of the rows whose logits are given.
void choose(const char* op, const VqShape& shape, int64_t rows, const VqLogits& logits,
            const VqNoise& noise, const Outputs& out) {
  const VqShape part{rows, shape.groups, shape.codes, shape.width};
  const int64_t base = logits.first * shape.groups;
  auto* counts = reinterpret_cast<unsigned long long*>(out.code_counts.mutable_data_ptr<int64_t>());
  check_launch(op, launch_vq_choose(part, logits, noise, vq_partials(part),
                                    out.codes.mutable_data_ptr<int64_t>() + base,
                                    out.stats.mutable_data_ptr<float>() + base * kStats, counts,
                                    out.partials.mutable_data_ptr<float>(), stream_of(out.codes)));
}

Five finish_forward(const char* op, const VqShape& shape, const at::Tensor& codebook,
                    const Outputs& out) {
  const at::Tensor table = codebook.contiguous();
  const cudaStream_t stream = stream_of(out.codes);
  const float scale = 1.0f / static_cast<float>(std::max<int64_t>(shape.rows, 1));
  check_launch(op, launch_vq_mean(shape, out.partials.const_data_ptr<float>(), out.partials.size(0),
                                  scale, out.mean_probs.mutable_data_ptr<float>(), stream));
  check_launch(op, launch_vq_gather(shape, out.codes.const_data_ptr<int64_t>(),
                                    table.const_data_ptr(), static_cast<int>(table.element_size()),
                                    out.vectors.mutable_data_ptr(), stream));
  return out.tuple();
}

Five gumbel_vq(const at::Tensor& logits, const at::Tensor& codebook, const at::Tensor& tau,
               const at::Tensor& seed, const at::Tensor& offset, bool training) {
  constexpr const char* op = "gumbel_vq";
  const VqShape shape = check_logits(op, logits, codebook);
  const Scope scope(op, "logits", logits);
  const Dtype dtype = dtype_of(op, "logits", logits);
  const VqNoise noise = read_noise(op, tau, seed, offset, training, logits);
  const at::Tensor from = logits.contiguous();
  const Outputs out = make_outputs(shape, shape.rows, logits, codebook);
  choose(op, shape, shape.rows, {from.const_data_ptr(), dtype, nullptr, 0}, noise, out);
  return finish_forward(op, shape, codebook, out);
}

int64_t chunk_rows(const VqShape& shape) {
  const int64_t row = shape.groups * shape.codes * static_cast<int64_t>(sizeof(float));
  return std::max<int64_t>(1, std::min(shape.rows, kChunkBytes / row));
}

Five gumbel_vq_linear(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& bias,
                      const at::Tensor& codebook, const at::Tensor& tau, const at::Tensor& seed,
                      const at::Tensor& offset, bool training) {
  constexpr const char* op = "gumbel_vq_linear";
  const VqShape shape = check_projection(op, hidden, weight, bias, codebook);
  const Scope scope(op, "hidden", hidden);
  dtype_of(op, "hidden", hidden);
  const VqNoise noise = read_noise(op, tau, seed, offset, training, hidden);
  const int64_t step = chunk_rows(shape);
  const Outputs out = make_outputs(shape, step, hidden, codebook);
  const at::Tensor extra = bias.to(at::kFloat).contiguous();
  at::Tensor buffer;
  for (int64_t first = 0; first < shape.rows; first += step) {
    const int64_t rows = std::min(step, shape.rows - first);
    buffer.reset();  // freed before the next chunk asks for the same memory
    buffer = product(hidden.narrow(0, first, rows), weight.t());
    choose(op, shape, rows,
           {buffer.const_data_ptr(), Dtype::fp32, extra.const_data_ptr<float>(), first}, noise, out);
  }
  return finish_forward(op, shape, codebook, out);
}

// ---- backward -----------------------------------------------------------------------------------

struct Saved {
  at::Tensor vectors, mean, codebook, codes, stats;  // vectors, mean: undefined where absent
  bool soft;

  const float* mean_data() const { return mean.defined() ? mean.const_data_ptr<float>() : nullptr; }
};

Saved save(const VqShape& shape, const MaybeTensor& grad_vectors, const MaybeTensor& grad_probs,
           const at::Tensor& codebook, const at::Tensor& codes, const at::Tensor& stats,
           bool training) {
  Saved saved;
  if (grad_vectors) saved.vectors = grad_vectors->to(codebook.scalar_type()).contiguous();
  if (grad_probs) {
    saved.mean = grad_probs->to(at::kFloat).div(std::max<int64_t>(shape.rows, 1)).contiguous();
  }
  saved.soft = training && grad_vectors;
  saved.codebook = codebook;
  saved.codes = codes.contiguous();
  saved.stats = stats.contiguous();
  return saved;
}

// Gradient of the soft choice of rows first..first + n, into `out` (n, G * V) fp32.
void soft_gradient(const VqShape& shape, const Saved& saved, int64_t first, const at::Tensor& out) {
  const at::Tensor rows = saved.vectors.narrow(0, first, out.size(0));
  for (int64_t g = 0; g < shape.groups; ++g) {
    at::Tensor into = out.narrow(1, g * shape.codes, shape.codes);
    const at::Tensor part = rows.narrow(1, g * shape.width, shape.width);
    const at::Tensor table = saved.codebook.select(0, g).t();
    if (part.scalar_type() == at::kFloat) {
      at::mm_out(into, part, table);
    } else {
      into.copy_(product(part, table));
    }
  }
}

at::Tensor codebook_gradient(const char* op, const VqShape& shape, const Saved& saved) {
  // Rows that share a code are added with atomics, in any order.
  at::globalContext().alertNotDeterministic("stk::gumbel_vq gradient of the codebook on CUDA");
  const at::Tensor grad =
      at::zeros(saved.codebook.sizes(), saved.codebook.options().dtype(at::kFloat));
  check_launch(op, launch_vq_scatter(shape, saved.codes.const_data_ptr<int64_t>(),
                                     saved.vectors.const_data_ptr(),
                                     dtype_of(op, "codebook", saved.vectors),
                                     grad.mutable_data_ptr<float>(), stream_of(grad)));
  return grad.to(saved.codebook.scalar_type());
}

// Gradient of the logits given, in `grad`; `soft` may be undefined.
void differentiate(const char* op, const VqShape& shape, int64_t rows, const VqLogits& logits,
                   const VqNoise& noise, const Saved& saved, const at::Tensor& soft,
                   const at::Tensor& grad) {
  const VqShape part{rows, shape.groups, shape.codes, shape.width};
  const int64_t base = logits.first * shape.groups;
  check_launch(op, launch_vq_differentiate(
                       part, logits, noise, saved.stats.const_data_ptr<float>() + base * kStats,
                       saved.soft ? soft.const_data_ptr<float>() : nullptr, saved.mean_data(),
                       grad.mutable_data_ptr(), dtype_of(op, "grad", grad), stream_of(grad)));
}

std::tuple<at::Tensor, at::Tensor> gumbel_vq_backward(
    const MaybeTensor& grad_vectors, const MaybeTensor& grad_probs, const at::Tensor& logits,
    const at::Tensor& codebook, const at::Tensor& codes, const at::Tensor& stats,
    const at::Tensor& tau, const at::Tensor& seed, const at::Tensor& offset, bool training,
    std::array<bool, 2> wanted) {
  constexpr const char* op = "gumbel_vq_backward";
  const VqShape shape = check_logits(op, logits, codebook);
  const Scope scope(op, "logits", logits);
  check_saved(op, shape, grad_vectors, grad_probs, codes, stats, false, logits);
  check_wanted(op, grad_vectors, wanted[1]);
  const VqNoise noise = read_noise(op, tau, seed, offset, training, logits);
  const Saved saved = save(shape, grad_vectors, grad_probs, codebook, codes, stats, training);
  at::Tensor grad = at::empty({0}, logits.options()), grad_codebook = at::empty({0}, codebook.options());
  if (wanted[0]) {
    const at::Tensor from = logits.contiguous();
    const Dtype dtype = dtype_of(op, "logits", logits);
    grad = at::empty(from.sizes(), from.options());
    // fp32 gradients hold the products that they are made from; others need a chunk beside them.
    const int64_t step = dtype == Dtype::fp32 ? std::max<int64_t>(shape.rows, 1) : chunk_rows(shape);
    const int64_t size = shape.groups * shape.codes;
    for (int64_t first = 0; first < shape.rows; first += step) {
      const int64_t rows = std::min(step, shape.rows - first);
      const at::Tensor into = grad.view({shape.rows, size}).narrow(0, first, rows);
      at::Tensor soft;
      if (saved.soft) {
        soft = dtype == Dtype::fp32 ? into : at::empty({rows, size}, stats.options());
        soft_gradient(shape, saved, first, soft);
      }
      const VqLogits part{from.view({shape.rows, size}).narrow(0, first, rows).const_data_ptr(),
                          dtype, nullptr, first};
      differentiate(op, shape, rows, part, noise, saved, soft, into);
    }
  }
  if (wanted[1]) grad_codebook = codebook_gradient(op, shape, saved);
  return {grad, grad_codebook};
}

Four gumbel_vq_linear_backward(const MaybeTensor& grad_vectors, const MaybeTensor& grad_probs,
                               const at::Tensor& hidden, const at::Tensor& weight,
                               const at::Tensor& bias, const at::Tensor& codebook,
                               const at::Tensor& codes, const at::Tensor& stats,
                               const at::Tensor& tau, const at::Tensor& seed,
                               const at::Tensor& offset, bool training, std::array<bool, 4> wanted) {
  constexpr const char* op = "gumbel_vq_linear_backward";
  const VqShape shape = check_projection(op, hidden, weight, bias, codebook);
  const Scope scope(op, "hidden", hidden);
  check_saved(op, shape, grad_vectors, grad_probs, codes, stats, false, hidden);
  check_wanted(op, grad_vectors, wanted[3]);
  const VqNoise noise = read_noise(op, tau, seed, offset, training, hidden);
  const Saved saved = save(shape, grad_vectors, grad_probs, codebook, codes, stats, training);
  const auto floats = hidden.options().dtype(at::kFloat);
  const int64_t step = chunk_rows(shape), size = shape.groups * shape.codes;
  const auto make = [&](const at::Tensor& like, bool want, const at::TensorOptions& options) {
    return want ? at::zeros(like.sizes(), options) : at::empty({0}, options);
  };
  at::Tensor grad_hidden = make(hidden, wanted[0], hidden.options());
  // Sums over chunks stay in fp32.
  at::Tensor grad_weight = make(weight, wanted[1], floats);
  at::Tensor grad_bias = make(bias, wanted[2], floats);
  at::Tensor grad_codebook = at::empty({0}, codebook.options());
  const at::Tensor extra = bias.to(at::kFloat).contiguous();
  const bool any = wanted[0] || wanted[1] || wanted[2];
  for (int64_t first = 0; any && first < shape.rows; first += step) {
    const int64_t rows = std::min(step, shape.rows - first);
    const at::Tensor chunk = hidden.narrow(0, first, rows);
    at::Tensor logits = product(chunk, weight.t()), soft, grad;
    if (saved.soft) {
      soft = at::empty({rows, size}, floats);
      soft_gradient(shape, saved, first, soft);
    }
    // The gradient takes the dtype of the products that follow, in place where that is fp32.
    const bool in_place = saved.soft && hidden.scalar_type() == at::kFloat;
    grad = in_place ? soft : at::empty({rows, size}, hidden.options());
    differentiate(op, shape, rows,
                  {logits.const_data_ptr(), Dtype::fp32, extra.const_data_ptr<float>(), first},
                  noise, saved, soft, grad);
    logits.reset();
    soft.reset();
    if (wanted[0]) {
      at::Tensor into = grad_hidden.narrow(0, first, rows);
      at::mm_out(into, grad, weight);
    }
    if (wanted[1]) grad_weight.add_(product(grad.t(), chunk));
    if (wanted[2]) grad_bias.add_(at::sum(grad, {0}, false, at::kFloat));
  }
  if (wanted[3]) grad_codebook = codebook_gradient(op, shape, saved);
  return {grad_hidden, grad_weight.to(weight.scalar_type()), grad_bias.to(bias.scalar_type()),
          grad_codebook};
}

}  // namespace

TORCH_LIBRARY_IMPL(stk, CUDA, m) {
  m.impl("gumbel_vq", gumbel_vq);
  m.impl("gumbel_vq_backward", gumbel_vq_backward);
  m.impl("gumbel_vq_linear", gumbel_vq_linear);
  m.impl("gumbel_vq_linear_backward", gumbel_vq_linear_backward);
}

}  // namespace stk
