// Factors of dropout on the CPU, whose own generator draws one element after another.
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
STK_AVX2_BEGIN
namespace stk::dropout::avx2 {
#include "common/simd_philox.h"
#include "dropout/dropout_body.h"
}  // namespace stk::dropout::avx2
STK_AVX2_END
namespace stk::dropout::baseline {
#include "common/simd_philox.h"
#include "dropout/dropout_body.h"
}  // namespace stk::dropout::baseline

namespace stk::dropout {
namespace {

constexpr char kOp[] = "stk::dropout_factors";
constexpr int64_t kBlock = 64;
// Blocks below which another thread costs more than it brings.
constexpr int64_t kThreadBlocks = 256;

at::Tensor dropout_factors_cpu(const at::Tensor& like, const at::Tensor& seed, const at::Tensor& offset,
                               int64_t dropped) {
  TORCH_CHECK_VALUE(dropped >= 0 && dropped < 65536, kOp, ": dropped is ", dropped,
                    " but expected 0 to 65535");
  const Seed draw = seed_argument(kOp, seed, offset, like, "like");
  at::Tensor out = at::empty(like.sizes(), like.options().dtype(at::kFloat));
  float* factors = out.mutable_data_ptr<float>();
  const int64_t count = out.numel();
  const float scale = 65536.0f / static_cast<float>(65536 - dropped);
  const auto block = has_avx2() ? &avx2::write_block : &baseline::write_block;
  at::parallel_for(0, (count + kBlock - 1) / kBlock, kThreadBlocks, [&](int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; ++index) {
      const int64_t first = index * kBlock;
      if (count - first >= kBlock) {
        block(draw.key(), draw.stream(), index, static_cast<int32_t>(dropped), scale, factors + first);
        continue;
      }
      float rest[kBlock];
      block(draw.key(), draw.stream(), index, static_cast<int32_t>(dropped), scale, rest);
      std::copy(rest, rest + (count - first), factors + first);
    }
  });
  return out;
}

}  // namespace
}  // namespace stk::dropout

TORCH_LIBRARY_IMPL(stk, CPU, m) { m.impl("dropout_factors", &stk::dropout::dropout_factors_cpu); }
