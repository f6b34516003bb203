// gumbel_vq and gumbel_vq_linear on the CPU. Logits are taken in chunks of rows; for the projected form
// a chunk's logits are the only ones in memory. Half-precision operands are widened to fp32.
#include <ATen/ops/addmm.h>
#include <ATen/ops/sum.h>
#include <torch/library.h>

#include "gumbel_vq/gumbel_vq_cpu_chunk.h"

namespace stk {
namespace {

// ---- logits given -------------------------------------------------------------------------------

template <typename T>
Outputs forward_logits(const VqShape& shape, const at::Tensor& logits, const at::Tensor& codebook,
                       const Noise<T>& noise) {
  const Outputs out = make_outputs(shape, logits, codebook);
  const at::Tensor wide = logits.to(work_type(logits)).contiguous();
  std::vector<std::vector<double>> probs(at::get_num_threads());
  choose("gumbel_vq", shape, noise, wide, 0, out, probs);
  finish_forward<T>(shape, codebook, out, probs);
  return out;
}

template <typename T>
std::tuple<at::Tensor, at::Tensor> backward_logits(const VqShape& shape, const at::Tensor& logits,
                                                   const at::Tensor& codebook, const Saved& saved,
                                                   const Noise<T>& noise,
                                                   std::array<bool, 2> wanted) {
  at::Tensor grad = at::empty({0}, logits.options()), grad_codebook = at::empty({0}, codebook.options());
  if (wanted[0]) {
    const at::Tensor wide = logits.to(work_type(logits)).contiguous();
    const at::Tensor flat = wide.view({shape.rows, shape.groups * shape.codes});
    grad = at::empty(wide.sizes(), wide.options());
    const at::Tensor into = grad.view(flat.sizes());
    const int64_t step = chunk_rows(shape, kCacheBytes * at::get_num_threads(), sizeof(T));
    for (int64_t first = 0; first < shape.rows; first += step) {
      const int64_t rows = std::min(step, shape.rows - first);
      differentiate(shape, noise, saved, flat.narrow(0, first, rows), first,
                    into.narrow(0, first, rows));
    }
    grad = grad.to(logits.scalar_type());
  }
  if (wanted[1]) grad_codebook = codebook_gradient<T>(shape, saved, codebook);
  return {grad, grad_codebook};
}

// ---- projection ---------------------------------------------------------------------------------

// Codes whose weights are widened at a time.
constexpr int64_t kTile = 4096;

// Calls work(begin, end, weight rows in the work dtype) over all codes; one call without a copy where
// the weight has that dtype already.
template <typename Work>
void each_tile(const at::Tensor& weight, const Work& work) {
  const int64_t count = weight.size(0);
  const int64_t step = weight.scalar_type() == work_type(weight) ? count : kTile;
  for (int64_t begin = 0; begin < count; begin += step) {
    const int64_t end = std::min(count, begin + step);
    work(begin, end, weight.narrow(0, begin, end - begin).to(work_type(weight)));
  }
}

void project(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& bias,
             const at::Tensor& logits) {
  each_tile(weight, [&](int64_t begin, int64_t end, const at::Tensor& rows) {
    at::Tensor into = logits.narrow(1, begin, end - begin);
    at::addmm_out(into, bias.narrow(0, begin, end - begin), hidden, rows.t());
  });
}

template <typename T>
Outputs forward_linear(const VqShape& shape, const at::Tensor& hidden, const at::Tensor& weight,
                       const at::Tensor& bias, const at::Tensor& codebook, const Noise<T>& noise) {
  const Outputs out = make_outputs(shape, hidden, codebook);
  const auto work = hidden.options().dtype(work_type(hidden));
  const at::Tensor wide_bias = bias.to(work_type(bias));
  const int64_t step = std::min(shape.rows, chunk_rows(shape, kProjectedBytes, sizeof(T)));
  const at::Tensor buffer = at::empty({step, shape.groups * shape.codes}, work);
  std::vector<std::vector<double>> probs(at::get_num_threads());
  for (int64_t first = 0; first < shape.rows; first += step) {
    const int64_t rows = std::min(step, shape.rows - first);
    const at::Tensor logits = buffer.narrow(0, 0, rows);
    project(hidden.narrow(0, first, rows).to(work_type(hidden)), weight, wide_bias, logits);
    choose("gumbel_vq_linear", shape, noise, logits, first, out, probs);
  }
  finish_forward<T>(shape, codebook, out, probs);
  return out;
}

using Four = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

template <typename T>
Four backward_linear(const VqShape& shape, const at::Tensor& hidden, const at::Tensor& weight,
                     const at::Tensor& bias, const at::Tensor& codebook, const Saved& saved,
                     const Noise<T>& noise, std::array<bool, 4> wanted) {
  const at::ScalarType type = work_type(hidden);
  const auto work = hidden.options().dtype(type);
  const int64_t size = shape.groups * shape.codes;
  const auto make = [&](const at::Tensor& like, bool want) {
    return want ? at::zeros(like.sizes(), work) : at::empty({0}, work);
  };
  at::Tensor grad_hidden = make(hidden, wanted[0]), grad_weight = make(weight, wanted[1]);
  at::Tensor grad_bias = make(bias, wanted[2]), grad_codebook = at::empty({0}, work);
  if (wanted[0] || wanted[1] || wanted[2]) {
    const at::Tensor wide_bias = bias.to(type);
    const int64_t step = std::min(shape.rows, chunk_rows(shape, kProjectedBytes, sizeof(T)));
    const at::Tensor buffers = at::empty({2, step, size}, work);
    for (int64_t first = 0; first < shape.rows; first += step) {
      const int64_t rows = std::min(step, shape.rows - first);
      const at::Tensor chunk = hidden.narrow(0, first, rows).to(type);
      const at::Tensor logits = buffers.select(0, 0).narrow(0, 0, rows);
      const at::Tensor grad = buffers.select(0, 1).narrow(0, 0, rows);
      project(chunk, weight, wide_bias, logits);
      differentiate(shape, noise, saved, logits, first, grad);
      each_tile(weight, [&](int64_t begin, int64_t end, const at::Tensor& tile) {
        const at::Tensor part = grad.narrow(1, begin, end - begin);
        if (wanted[0]) grad_hidden.narrow(0, first, rows).addmm_(part, tile);
        if (wanted[1]) grad_weight.narrow(0, begin, end - begin).addmm_(part.t(), chunk);
      });
      if (wanted[2]) grad_bias.add_(grad.sum(0));
    }
  }
  if (wanted[3]) grad_codebook = codebook_gradient<T>(shape, saved, codebook);
  return {grad_hidden.to(hidden.scalar_type()), grad_weight.to(weight.scalar_type()),
          grad_bias.to(bias.scalar_type()), grad_codebook.to(codebook.scalar_type())};
}

// ---- operators ----------------------------------------------------------------------------------

// Matrix products in here keep the dtype that was chosen for them.
struct NoAutocast {
  c10::impl::ExcludeDispatchKeyGuard guard{c10::autocast_dispatch_keyset};
};

// Calls work(Noise<float or double>).
template <typename Work>
auto with_noise(const char* op, const at::Tensor& like, const at::Tensor& tau, const at::Tensor& seed,
                const at::Tensor& offset, bool training, const Work& work) {
  const NoAutocast off;
  if (work_type(like) == at::kDouble) {
    return work(read_noise<double>(op, tau, seed, offset, training, like));
  }
  return work(read_noise<float>(op, tau, seed, offset, training, like));
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> gumbel_vq(
    const at::Tensor& logits, const at::Tensor& codebook, const at::Tensor& tau,
    const at::Tensor& seed, const at::Tensor& offset, bool training) {
  constexpr const char* op = "gumbel_vq";
  const VqShape shape = check_logits(op, logits, codebook);
  return with_noise(op, logits, tau, seed, offset, training, [&](const auto& noise) {
    return forward_logits(shape, logits, codebook, noise).tuple();
  });
}

std::tuple<at::Tensor, at::Tensor> gumbel_vq_backward(
    const MaybeTensor& grad_vectors, const MaybeTensor& grad_probs, const at::Tensor& logits,
    const at::Tensor& codebook, const at::Tensor& codes, const at::Tensor& stats,
    const at::Tensor& tau, const at::Tensor& seed, const at::Tensor& offset, bool training,
    std::array<bool, 2> wanted) {
  constexpr const char* op = "gumbel_vq_backward";
  const VqShape shape = check_logits(op, logits, codebook);
  const at::ScalarType work = work_type(logits);
  check_saved(op, shape, grad_vectors, grad_probs, codes, stats, work == at::kDouble, logits);
  check_wanted(op, grad_vectors, wanted[1]);
  return with_noise(op, logits, tau, seed, offset, training, [&](const auto& noise) {
    const Saved saved =
        save(shape, grad_vectors, grad_probs, codebook, codes, stats, work, training);
    return backward_logits(shape, logits, codebook, saved, noise, wanted);
  });
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> gumbel_vq_linear(
    const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& bias,
    const at::Tensor& codebook, const at::Tensor& tau, const at::Tensor& seed,
    const at::Tensor& offset, bool training) {
  constexpr const char* op = "gumbel_vq_linear";
  const VqShape shape = check_projection(op, hidden, weight, bias, codebook);
  return with_noise(op, hidden, tau, seed, offset, training, [&](const auto& noise) {
    return forward_linear(shape, hidden, weight, bias, codebook, noise).tuple();
  });
}

Four gumbel_vq_linear_backward(const MaybeTensor& grad_vectors, const MaybeTensor& grad_probs,
                               const at::Tensor& hidden, const at::Tensor& weight,
                               const at::Tensor& bias, const at::Tensor& codebook,
                               const at::Tensor& codes, const at::Tensor& stats,
                               const at::Tensor& tau, const at::Tensor& seed,
                               const at::Tensor& offset, bool training, std::array<bool, 4> wanted) {
  constexpr const char* op = "gumbel_vq_linear_backward";
  const VqShape shape = check_projection(op, hidden, weight, bias, codebook);
  const at::ScalarType work = work_type(hidden);
  check_saved(op, shape, grad_vectors, grad_probs, codes, stats, work == at::kDouble, hidden);
  check_wanted(op, grad_vectors, wanted[3]);
  return with_noise(op, hidden, tau, seed, offset, training, [&](const auto& noise) {
    const Saved saved =
        save(shape, grad_vectors, grad_probs, codebook, codes, stats, work, training);
    return backward_linear(shape, hidden, weight, bias, codebook, saved, noise, wanted);
  });
}

}  // namespace

TORCH_LIBRARY_IMPL(stk, CPU, m) {
  m.impl("gumbel_vq", gumbel_vq);
  m.impl("gumbel_vq_backward", gumbel_vq_backward);
  m.impl("gumbel_vq_linear", gumbel_vq_linear);
  m.impl("gumbel_vq_linear_backward", gumbel_vq_linear_backward);
}

}  // namespace stk
