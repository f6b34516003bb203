// Prefix attention on CUDA: checks, tensors, stream; the kernels are in attention_forward.cu and
// attention_backward.cu.
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <limits>
#include <tuple>

#include "attention/attention.h"
#include "attention/attention_check.h"
#include "common/checks.h"
#include "common/cuda_launch.h"

namespace stk::prefix_attention {
namespace {

using Optional = std::optional<at::Tensor>;

constexpr int64_t kMostWidth = 128;
constexpr int64_t kMostGrid = 65535;

Element element_of(const at::Tensor& query) {
  check_dtype(kOp, "query", query,
              query.scalar_type() == at::kFloat || query.scalar_type() == at::kHalf ||
                  query.scalar_type() == at::kBFloat16,
              "float32, float16 or bfloat16 on CUDA");
  if (query.scalar_type() == at::kHalf) return Element::kHalf;
  return query.scalar_type() == at::kBFloat16 ? Element::kBFloat16 : Element::kFloat;
}

void check_limits(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value) {
  TORCH_CHECK_VALUE(query.size(3) <= kMostWidth && value.size(3) <= kMostWidth, kOp, ": heads of ",
                    query.size(3), " and ", value.size(3), " elements, but the CUDA kernels take up to ",
                    kMostWidth, " (STK_KERNELS=reference takes any)");
  TORCH_CHECK_VALUE(query.size(0) <= kMostGrid && query.size(1) <= kMostGrid, kOp,
                    ": query has shape ", query.sizes(), " but batch and heads go up to ", kMostGrid);
  constexpr int64_t kMostRows = std::numeric_limits<int>::max() / 2;
  TORCH_CHECK_VALUE(query.size(2) <= kMostRows && key.size(2) <= kMostRows, kOp,
                    ": too many queries or keys: ", query.size(2), " and ", key.size(2));
}

int64_t padded_width(int64_t width) { return (width + 7) / 8 * 8; }

// Rows of 16-byte aligned vectors, padded to whole ones with zeros: `tensor` itself where it is so.
at::Tensor aligned(const at::Tensor& tensor) {
  const int64_t vector = 16 / tensor.element_size(), width = tensor.size(3);
  bool fits = width % 8 == 0 && tensor.stride(3) == 1 &&
              reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % 16 == 0;
  for (int64_t dim = 0; dim < 3; ++dim) {
    fits = fits && (tensor.size(dim) == 1 || tensor.stride(dim) % vector == 0);
  }
  return fits ? tensor : at::constant_pad_nd(tensor, {0, padded_width(width) - width}).contiguous();
}

Rows rows_of(const at::Tensor& tensor) {
  return {const_cast<void*>(tensor.const_data_ptr()), tensor.stride(0), tensor.stride(1),
          tensor.stride(2)};
}

// The inputs as the kernels want them; holds the tensors that the pointers point at, and makes their
// device the current one once they are known to be on one.
struct Inputs {
  c10::cuda::OptionalCUDAGuard guard;
  at::Tensor query, key, value, visible, query_lengths;
  CudaShape shape{};
  double query_factor = 1.0;  // folded into the query, so that the scale is positive

  Inputs(const at::Tensor& query_in, const at::Tensor& key_in, const at::Tensor& value_in,
         const Optional& seen, const Optional& lengths, const Optional& seed, const Optional& offset,
         double scale, double dropout_p) {
    check_on_cuda(kOp, "query", query_in);
    check_inputs(query_in, key_in, value_in, seen, lengths, dropout_p);
    guard.set_device(query_in.device());
    check_limits(query_in, key_in, value_in);
    if (scale <= 0.0) query_factor = scale, scale = 1.0;
    query = aligned(query_factor == 1.0 ? query_in : query_in.mul(query_factor));
    key = aligned(key_in);
    value = aligned(value_in);
    shape.batch = query.size(0), shape.heads = query.size(1);
    shape.query_count = query.size(2), shape.key_count = key.size(2);
    shape.width = query.size(3), shape.value_width = value.size(3);
    shape.scale = scale;
    if (seen) {
      visible = seen->to(at::kLong).contiguous();
      shape.visible = visible.const_data_ptr<int64_t>();
      shape.visible_batch = visible.dim() == 1 ? 1 : visible.size(0) == 1 ? 0 : visible.size(1);
      shape.visible_query = visible.dim() == 1 ? 0 : 1;
    }
    if (lengths) {
      query_lengths = lengths->to(at::kLong).contiguous();
      shape.query_lengths = query_lengths.const_data_ptr<int64_t>();
    }
    shape.threshold = dropout_threshold(dropout_p);
    shape.factor = 1.0 / (1.0 - dropout_p);
    if (shape.threshold > 0) {
      TORCH_CHECK_VALUE(seed && offset, kOp, ": dropout needs seed and offset");
      shape.seed = seed_argument(kOp, *seed, *offset, query_in, "query");
    }
  }

  bool empty() const {
    return query.numel() == 0 || key.numel() == 0 || value.numel() == 0;
  }
};

// Memory for a result: in the layout that is returned, or padded, to be cut by `finish`.
at::Tensor result_like(const at::Tensor& like, int64_t count, int64_t width) {
  return empty_heads(like, count, padded_width(width));
}

at::Tensor finish(const at::Tensor& result, const at::Tensor& like, int64_t width) {
  if (result.size(3) == width) return result;
  at::Tensor cut = empty_heads(like, result.size(2), width);
  cut.copy_(result.narrow(3, 0, width));
  return cut;
}

std::tuple<at::Tensor, at::Tensor> attention_cuda(const at::Tensor& query, const at::Tensor& key,
                                                  const at::Tensor& value, const Optional& visible,
                                                  const Optional& query_lengths, const Optional& seed,
                                                  const Optional& offset, double scale,
                                                  double dropout_p) {
  const Inputs in(query, key, value, visible, query_lengths, seed, offset, scale, dropout_p);
  const Element element = element_of(query);
  at::Tensor output = result_like(query, query.size(2), value.size(3));
  at::Tensor logsumexp = at::empty({query.size(0), query.size(1), query.size(2)},
                                   query.options().dtype(at::kFloat));
  if (in.empty()) {
    output.zero_();
    logsumexp.fill_(std::numeric_limits<float>::infinity());
  } else {
    const CudaForward problem{in.shape,         rows_of(in.query), rows_of(in.key),
                              rows_of(in.value), rows_of(output),
                              logsumexp.mutable_data_ptr<float>()};
    check_launch(kOp, launch_forward(problem, element, stream_of(query)));
  }
  return {finish(output, query, value.size(3)), logsumexp};
}

at::Tensor attention_inference_cuda(const at::Tensor& query, const at::Tensor& key,
                                    const at::Tensor& value, const Optional& visible,
                                    const Optional& query_lengths, const Optional& seed,
                                    const Optional& offset, double scale, double dropout_p) {
  return std::get<0>(attention_cuda(query, key, value, visible, query_lengths, seed, offset, scale,
                                    dropout_p));
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> attention_backward_cuda(
    const at::Tensor& grad_in, const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
    const at::Tensor& output_in, const at::Tensor& logsumexp_in, const Optional& visible,
    const Optional& query_lengths, const Optional& seed, const Optional& offset, double scale,
    double dropout_p) {
  const Inputs in(query, key, value, visible, query_lengths, seed, offset, scale, dropout_p);
  const Element element = element_of(query);
  TORCH_CHECK_VALUE(grad_in.sizes() == output_in.sizes(), kOp, ": grad has shape ", grad_in.sizes(),
                    " but expected ", output_in.sizes());
  const at::Tensor grad = aligned(grad_in), output = aligned(output_in);
  const at::Tensor logsumexp = logsumexp_in.contiguous();
  at::Tensor query_grad = result_like(query, query.size(2), query.size(3));
  at::Tensor key_grad = result_like(key, key.size(2), key.size(3));
  at::Tensor value_grad = result_like(value, value.size(2), value.size(3));
  if (in.empty()) {
    query_grad.zero_(), key_grad.zero_(), value_grad.zero_();
  } else {
    const int64_t blocks = (query.size(2) + kSeenBlock - 1) / kSeenBlock;
    at::Tensor delta = at::empty_like(logsumexp);
    at::Tensor most_seen = at::empty({query.size(0), blocks}, query.options().dtype(at::kInt));
    const CudaBackward problem{in.shape,
                               rows_of(in.query),
                               rows_of(in.key),
                               rows_of(in.value),
                               rows_of(output),
                               rows_of(grad),
                               logsumexp.const_data_ptr<float>(),
                               delta.mutable_data_ptr<float>(),
                               most_seen.mutable_data_ptr<int>(),
                               rows_of(query_grad),
                               rows_of(key_grad),
                               rows_of(value_grad)};
    check_launch(kOp, launch_backward(problem, element, stream_of(query)));
  }
  query_grad = finish(query_grad, query, query.size(3));
  if (in.query_factor != 1.0) query_grad.mul_(in.query_factor);
  return {query_grad, finish(key_grad, key, key.size(3)), finish(value_grad, value, value.size(3))};
}

}  // namespace
}  // namespace stk::prefix_attention

TORCH_LIBRARY_IMPL(stk, CUDA, m) {
  m.impl("attention", &stk::prefix_attention::attention_cuda);
  m.impl("attention_inference", &stk::prefix_attention::attention_inference_cuda);
  m.impl("attention_backward", &stk::prefix_attention::attention_backward_cuda);
}
