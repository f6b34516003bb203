// Counter-based random numbers: Philox 4x32-10 (Salmon et al., 2011, "Parallel random numbers: as easy
// as 1, 2, 3"). The counter is the index of a group of four elements, so a value depends on its element's
// index, the seed and the offset alone: not on threads, tiles or devices. stk/ops/_random.py draws the
// same bits in plain PyTorch.
//
//   key     = (low, high) halves of the 64-bit seed
//   counter = (low, high) halves of (element index / 4), (low, high) halves of the 64-bit offset
//   element = word number (element index % 4) of the result
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define STK_HD __host__ __device__ __forceinline__
#define STK_UNROLL _Pragma("unroll")
#else
#define STK_HD inline
#define STK_UNROLL
#endif

namespace stk {

struct Philox4 {
  uint32_t x[4];
};

STK_HD uint32_t mul_high(uint32_t a, uint32_t b) {
#ifdef __CUDA_ARCH__
  return __umulhi(a, b);
#else
  return static_cast<uint32_t>((static_cast<uint64_t>(a) * b) >> 32);
#endif
}

// The four words of group `group` (element indices 4 * group to 4 * group + 3).
STK_HD Philox4 philox(uint64_t seed, uint64_t offset, uint64_t group) {
  uint32_t c0 = static_cast<uint32_t>(group), c1 = static_cast<uint32_t>(group >> 32);
  uint32_t c2 = static_cast<uint32_t>(offset), c3 = static_cast<uint32_t>(offset >> 32);
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  STK_UNROLL
  for (int round = 0; round < 10; ++round) {
    const uint32_t high0 = mul_high(0xD2511F53u, c0), low0 = 0xD2511F53u * c0;
    const uint32_t high1 = mul_high(0xCD9E8D57u, c2), low1 = 0xCD9E8D57u * c2;
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// [0, 1), 24 bits: all the values are multiples of 2^-24.
STK_HD float uniform(uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }

// (0, 1), 23 bits: the middles of 2^23 cells, never 0 or 1, exact in fp32; what logarithms need.
STK_HD float uniform_open(uint32_t word) {
  return (static_cast<float>(word >> 9) + 0.5f) * 0x1p-23f;
}

}  // namespace stk
