// Dropout on the CPU, where torch's generator draws one element after another.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "common/checks.h"
#include "common/philox.h"
#include "common/simd.h"

// A block is 64 elements, from 8 groups of words of which each half decides one. Element `64 b + 16 w + 8 h
// + l` takes half h (0: the low one) of word w of group `8 b + l`: the order in which they lie in vectors.
#define STK_AVX2_REGION
STK_AVX2_BEGIN
namespace stk::dropout::avx2 {
#include "common/simd_philox.h"
#include "dropout/dropout_body.h"
}  // namespace stk::dropout::avx2
STK_AVX2_END
#undef STK_AVX2_REGION
namespace stk::dropout::baseline {
#include "common/simd_philox.h"
#include "dropout/dropout_body.h"
}  // namespace stk::dropout::baseline

namespace stk::dropout {
namespace {

constexpr int64_t kBlock = 64;
// Blocks below which another thread costs more than it brings.
constexpr int64_t kThreadBlocks = 256;

using Block = void (*)(uint64_t seed, uint64_t offset, int64_t index, int32_t dropped, float scale,
                       float* values);

// Runs `block` over `count` values, the last of which may fill a part of a block.
void over_blocks(Block block, const Seed& draw, int64_t dropped, float* values, int64_t count) {
  const float scale = 65536.0f / static_cast<float>(65536 - dropped);
  const int32_t threshold = static_cast<int32_t>(dropped);
  at::parallel_for(0, (count + kBlock - 1) / kBlock, kThreadBlocks, [&](int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; ++index) {
      const int64_t first = index * kBlock, size = std::min(kBlock, count - first);
      if (size == kBlock) {
        block(draw.key(), draw.stream(), index, threshold, scale, values + first);
        continue;
      }
      float rest[kBlock] = {};
      std::copy(values + first, values + count, rest);
      block(draw.key(), draw.stream(), index, threshold, scale, rest);
      std::copy(rest, rest + size, values + first);
    }
  });
}

Seed checked(const char* op, const char* name, const at::Tensor& like, const at::Tensor& seed,
             const at::Tensor& offset, int64_t dropped) {
  TORCH_CHECK_VALUE(dropped >= 0 && dropped < 65536, op, ": dropped is ", dropped,
                    " but expected 0 to 65535");
  return seed_argument(op, seed, offset, like, name);
}

at::Tensor dropout_factors_cpu(const at::Tensor& like, const at::Tensor& seed, const at::Tensor& offset,
                               int64_t dropped) {
  const Seed draw = checked("stk::dropout_factors", "like", like, seed, offset, dropped);
  at::Tensor out = at::empty(like.sizes(), like.options().dtype(at::kFloat));
  over_blocks(has_avx2() ? &avx2::write_block : &baseline::write_block, draw, dropped,
              out.mutable_data_ptr<float>(), out.numel());
  return out;
}

void relu_dropout_cpu(at::Tensor& x, const at::Tensor& seed, const at::Tensor& offset, int64_t dropped) {
  constexpr char op[] = "stk::relu_dropout_";
  const Seed draw = checked(op, "x", x, seed, offset, dropped);
  TORCH_CHECK_VALUE(x.scalar_type() == at::kFloat && x.is_contiguous(), op, ": x is ", x.scalar_type(),
                    " of strides ", x.strides(), " but expected contiguous Float");
  over_blocks(has_avx2() ? &avx2::relu_block : &baseline::relu_block, draw, dropped,
              x.mutable_data_ptr<float>(), x.numel());
}

}  // namespace
}  // namespace stk::dropout

TORCH_LIBRARY_IMPL(stk, CPU, m) {
  m.impl("dropout_factors", &stk::dropout::dropout_factors_cpu);
  m.impl("relu_dropout_", &stk::dropout::relu_dropout_cpu);
}
