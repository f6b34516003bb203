// Eight groups of common/philox.h at a time. Included inside an STK_AVX2 region and once more outside (see
// simd.h), so it has no include guard, no includes and no namespace of its own.

typedef uint32_t U8 __attribute__((vector_size(32)));
typedef uint64_t U4 __attribute__((vector_size(32)));

// Products of the even 32-bit lanes of a with b, 64 bits each.
STK_INLINE U4 multiply_even(U8 a, U4 b) {
#ifdef __AVX2__
  typedef int I8x __attribute__((vector_size(32)));
  return reinterpret_cast<U4>(
      __builtin_ia32_pmuludq256(reinterpret_cast<I8x>(a), reinterpret_cast<I8x>(b)));
#else
  return (reinterpret_cast<U4>(a) & 0xffffffffu) * b;
#endif
}

STK_INLINE void multiply_wide(U8 a, uint32_t constant, U8& high, U8& low) {
  const U4 b = U4{} + constant;
  const U4 even = multiply_even(a, b);
  const U4 odd = multiply_even(reinterpret_cast<U8>(reinterpret_cast<U4>(a) >> 32), b);
  high = reinterpret_cast<U8>((even >> 32) | (odd & 0xffffffff00000000u));
  low = reinterpret_cast<U8>((even & 0xffffffffu) | (odd << 32));
}

// philox() of groups `group` to `group + 7`, a lane each: word number i of all of them is in `words[i]`.
STK_INLINE void philox_lanes(uint64_t seed, uint64_t offset, uint64_t group, U8* words) {
  U8 c0, c1;
  for (int i = 0; i < 8; ++i) {
    c0[i] = static_cast<uint32_t>(group + i);
    c1[i] = static_cast<uint32_t>((group + i) >> 32);
  }
  U8 c2 = U8{} + static_cast<uint32_t>(offset), c3 = U8{} + static_cast<uint32_t>(offset >> 32);
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
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

// The same 32 words in the order of their elements.
STK_INLINE void philox_8(uint64_t seed, uint64_t offset, uint64_t group, uint32_t* words) {
  U8 lanes[4];
  philox_lanes(seed, offset, group, lanes);
  for (int i = 0; i < 8; ++i) {
    for (int word = 0; word < 4; ++word) words[4 * i + word] = lanes[word][i];
  }
}
