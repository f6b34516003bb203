// What host and device code of gumbel_vq share.
#pragma once

#include <cstdint>

namespace stk {

// N rows of G groups of V logits each, beside a codebook of G * V rows of width d. A "line" below is
// one group of one row: line = row * G + group, and its noise has the element indices line * V + v.
struct VqShape {
  int64_t rows, groups, codes, width;

  int64_t lines() const { return rows * groups; }
};

// Per line: log-sum-exp of the clean logits, and of the noisy logits divided by tau.
constexpr int kStats = 2;

}  // namespace stk
