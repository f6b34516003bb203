// One block of dropout. dropout_cpu.cpp includes this file once per instruction set, inside a namespace and a
// target region (see common/simd.h): no include guard and no includes in here.

// Calls `take(first, factors)` for the 64 factors of a block, eight at a time: 0 where the half of a word
// is below `dropped`, else `scale`.
template <class Take>
STK_INLINE void draw_block(uint64_t seed, uint64_t offset, int64_t index, int32_t dropped, float scale,
                           Take take) {
  U8 words[4];
  philox_lanes(seed, offset, static_cast<uint64_t>(index) * 8, words);
  const I8 kept = reinterpret_cast<I8>(F8{} + scale);
  for (int word = 0; word < 4; ++word) {
    const I8 low = reinterpret_cast<I8>(words[word] & 0xffffu);
    const I8 high = reinterpret_cast<I8>(words[word] >> 16);
    take(16 * word, reinterpret_cast<F8>((low >= dropped) & kept));
    take(16 * word + 8, reinterpret_cast<F8>((high >= dropped) & kept));
  }
}

// The factors themselves.
inline void write_block(uint64_t seed, uint64_t offset, int64_t index, int32_t dropped, float scale,
                        float* out) {
  draw_block(seed, offset, index, dropped, scale,
             [&](int first, F8 factors) { std::memcpy(out + first, &factors, sizeof(factors)); });
}

// What is above zero (or not a number) in `values` times its factor, in their place.
inline void relu_block(uint64_t seed, uint64_t offset, int64_t index, int32_t dropped, float scale,
                       float* values) {
  draw_block(seed, offset, index, dropped, scale, [&](int first, F8 factors) {
    F8 value;
    std::memcpy(&value, values + first, sizeof(value));
    const I8 not_above = value <= 0.0f;
    value = reinterpret_cast<F8>(reinterpret_cast<I8>(value) & ~not_above) * factors;
    std::memcpy(values + first, &value, sizeof(value));
  });
}
