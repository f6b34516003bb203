// Eight groups of common/philox.h at a time. Included inside an STK_AVX2 region, with STK_AVX2_REGION defined,
// and once more outside (see simd.h), so it has no include guard, no includes and no namespace of its own.

typedef uint32_t U8 __attribute__((vector_size(32)));
typedef uint64_t U4 __attribute__((vector_size(32)));

// Products of the even 32-bit lanes of a with b, 64 bits each.
STK_INLINE U4 multiply_even(U8 a, U4 b) {
  // GCC makes three products of the general form; inside the region it does not define __AVX2__.
#if defined(STK_AVX2_REGION) && defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
  typedef int I8x __attribute__((vector_size(32)));
  return reinterpret_cast<U4>(
      __builtin_ia32_pmuludq256(reinterpret_cast<I8x>(a), reinterpret_cast<I8x>(b)));
#else
  return (reinterpret_cast<U4>(a) & 0xffffffffu) * b;
#endif
}

// High and low halves of the products of 32-bit lanes: those of the even lanes, blended with the odd ones'.
STK_INLINE void multiply_wide(U8 a, uint32_t constant, U8& high, U8& low) {
  const U4 b = U4{} + constant;
  const U4 even = multiply_even(a, b);
  const U4 odd = multiply_even(reinterpret_cast<U8>(reinterpret_cast<U4>(a) >> 32), b);
  high = STK_SHUFFLE8(reinterpret_cast<U8>(even >> 32), reinterpret_cast<U8>(odd), 0, 9, 2, 11, 4, 13, 6,
                      15);
  low = STK_SHUFFLE8(reinterpret_cast<U8>(even), reinterpret_cast<U8>(odd << 32), 0, 9, 2, 11, 4, 13, 6,
                     15);
}

// philox() of groups `group` to `group + 7`, a lane each: word number i of all of them is in `words[i]`.
STK_INLINE void philox_lanes(uint64_t seed, uint64_t offset, uint64_t group, U8* words) {
  const U8 low = U8{} + static_cast<uint32_t>(group);
  U8 c0 = low + U8{0, 1, 2, 3, 4, 5, 6, 7};
  // A comparison that holds is -1: what the low half carries over.
  U8 c1 = static_cast<uint32_t>(group >> 32) - reinterpret_cast<U8>(c0 < low);
  U8 c2 = U8{} + static_cast<uint32_t>(offset), c3 = U8{} + static_cast<uint32_t>(offset >> 32);
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
    U8 high0, low0, high1, low1;
    multiply_wide(c0, 0xD2511F53u, high0, low0);
    multiply_wide(c2, 0xCD9E8D57u, high1, low1);
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  words[0] = c0;
  words[1] = c1;
  words[2] = c2;
  words[3] = c3;
}

// The same 32 words in the order of their elements: group by group.
STK_INLINE void philox_8(uint64_t seed, uint64_t offset, uint64_t group, U8* words) {
  U8 lanes[4];
  philox_lanes(seed, offset, group, lanes);
  // Pairs of words, then whole groups: i and i + 4 share a vector until the end.
  const U8 low01 = STK_SHUFFLE8(lanes[0], lanes[1], 0, 8, 1, 9, 4, 12, 5, 13);
  const U8 low23 = STK_SHUFFLE8(lanes[2], lanes[3], 0, 8, 1, 9, 4, 12, 5, 13);
  const U8 high01 = STK_SHUFFLE8(lanes[0], lanes[1], 2, 10, 3, 11, 6, 14, 7, 15);
  const U8 high23 = STK_SHUFFLE8(lanes[2], lanes[3], 2, 10, 3, 11, 6, 14, 7, 15);
  const U8 group04 = STK_SHUFFLE8(low01, low23, 0, 1, 8, 9, 4, 5, 12, 13);
  const U8 group15 = STK_SHUFFLE8(low01, low23, 2, 3, 10, 11, 6, 7, 14, 15);
  const U8 group26 = STK_SHUFFLE8(high01, high23, 0, 1, 8, 9, 4, 5, 12, 13);
  const U8 group37 = STK_SHUFFLE8(high01, high23, 2, 3, 10, 11, 6, 7, 14, 15);
  words[0] = STK_SHUFFLE8(group04, group15, 0, 1, 2, 3, 8, 9, 10, 11);
  words[1] = STK_SHUFFLE8(group26, group37, 0, 1, 2, 3, 8, 9, 10, 11);
  words[2] = STK_SHUFFLE8(group04, group15, 4, 5, 6, 7, 12, 13, 14, 15);
  words[3] = STK_SHUFFLE8(group26, group37, 4, 5, 6, 7, 12, 13, 14, 15);
}
