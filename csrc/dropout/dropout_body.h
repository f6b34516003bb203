// One block of dropout's factors. dropout_cpu.cpp includes this file once per instruction set, inside a
// namespace and a target region (see common/simd.h): no include guard and no includes in here.

// 64 factors: 0 where the half of a word is below `dropped`, else `scale`.
inline void write_block(uint64_t seed, uint64_t offset, int64_t index, int32_t dropped, float scale,
                        float* factors) {
  U8 words[4];
  philox_lanes(seed, offset, static_cast<uint64_t>(index) * 8, words);
  const I8 kept = reinterpret_cast<I8>(F8{} + scale);
  for (int word = 0; word < 4; ++word) {
    const I8 low = reinterpret_cast<I8>(words[word] & 0xffffu);
    const I8 high = reinterpret_cast<I8>(words[word] >> 16);
    const I8 first = (low >= dropped) & kept, second = (high >= dropped) & kept;
    std::memcpy(factors + 16 * word, &first, sizeof(first));
    std::memcpy(factors + 16 * word + 8, &second, sizeof(second));
  }
}
