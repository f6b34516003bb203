// Loops of gumbel_vq on the CPU. Included once per instruction set (common/simd.h), after
// common/simd_math.h, so it has no include guard, no includes and no namespace of its own. The caller
// defines multiply32(U4, U4) beforehand. Everything is written on packs: eight fp32 lanes, or one fp64.

template <typename T>
struct Pack;
template <>
struct Pack<float> {
  using type = F8;
  static constexpr int64_t width = 8;
};
template <>
struct Pack<double> {
  using type = double;
  static constexpr int64_t width = 1;
};

STK_INLINE F8 load(const float* from) { return load8(from); }
STK_INLINE double load(const double* from) { return *from; }
STK_INLINE void store(float* to, F8 value) { store8(to, value); }
STK_INLINE void store(double* to, double value) { *to = value; }
STK_INLINE F8 exponential(F8 x) { return exp8(x); }
STK_INLINE double exponential(double x) { return std::exp(x); }
STK_INLINE double sum(double x) { return x; }
STK_INLINE float sum(F8 x) {
  float total = 0.0f;
  for (int lane = 0; lane < 8; ++lane) total += x[lane];
  return total;
}
STK_INLINE double largest(double x) { return x; }
STK_INLINE float largest(F8 x) {
  float best = x[0];
  for (int lane = 1; lane < 8; ++lane) best = x[lane] > best ? x[lane] : best;
  return best;
}
STK_INLINE int64_t first_lane(double x, double value) { return x == value ? 0 : -1; }
STK_INLINE int64_t first_lane(F8 x, float value) {
  const I8 hit = x == value;
  uint64_t any[4];
  __builtin_memcpy(any, &hit, sizeof(any));
  if (!(any[0] | any[1] | any[2] | any[3])) return -1;
  int64_t lane = 0;
  while (!hit[lane]) ++lane;
  return lane;
}

// Elements i.. of a line of `count`; lanes beyond its end hold `fill`.
template <typename T>
STK_INLINE typename Pack<T>::type load_part(const T* line, int64_t i, int64_t count, T fill) {
  constexpr int64_t width = Pack<T>::width;
  if (i + width <= count) return load(line + i);
  T lanes[width];
  for (int64_t lane = 0; lane < width; ++lane) lanes[lane] = i + lane < count ? line[i + lane] : fill;
  return load(lanes);
}

template <typename T>
STK_INLINE void store_part(T* line, int64_t i, int64_t count, typename Pack<T>::type value) {
  constexpr int64_t width = Pack<T>::width;
  if (i + width <= count) return store(line + i, value);
  T lanes[width];
  store(lanes, value);
  for (int64_t lane = 0; i + lane < count; ++lane) line[i + lane] = lanes[lane];
}

// Standard Gumbel noise -log(-log u) from eight words, 1 - u = (word + 1/2) / 2^32. Near u = 1, where
// the noise is large, log u comes from 1 - u itself, which is exact there.
STK_INLINE F8 gumbel(I8 word) {
  // Halves of 16 bits convert exactly; their sum is rounded once.
  const F8 high = __builtin_convertvector((word >> 16) & 0xffff, F8);
  const F8 low = __builtin_convertvector(word & 0xffff, F8);
  const F8 rest = (high * 65536.0f + (low + 0.5f)) * 0x1p-32f;
  const F8 u = ((65535.0f - high) * 65536.0f + (65535.5f - low)) * 0x1p-32f;
  const I8 bits = reinterpret_cast<I8>(u);
  const I8 exponent = (bits - 0x3f3504f3) >> 23;
  const F8 mantissa = reinterpret_cast<F8>(bits - (exponent << 23));
  const F8 f = exponent == 0 ? -rest : mantissa - 1.0f;
  return -log8(-log8_of(__builtin_convertvector(exponent, F8), f));
}

// Noise of elements 4 * group to 4 * (group + groups) - 1. `out` has room for 16 more.
STK_INLINE void fill_gumbel(float* out, uint64_t group, int64_t groups, uint64_t seed,
                            uint64_t stream) {
  const uint64_t mask = 0xffffffff;
  const U4 m0 = U4{} + 0xD2511F53u, m1 = U4{} + 0xCD9E8D57u;
  for (int64_t done = 0; done < groups; done += 4) {
    // The order of the lanes lets two unpack instructions put the words in order at the end.
    const U4 index = U4{} + (group + done) + U4{0, 2, 1, 3};
    U4 c0 = index, c1 = index >> 32, c2 = U4{} + stream, c3 = U4{} + (stream >> 32);
    uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
#pragma GCC unroll 10
    for (int round = 0; round < 10; ++round) {
      // Only the low halves of the lanes count; the multiplication ignores the others.
      const U4 p0 = multiply32(c0, m0), p1 = multiply32(c2, m1);
      c0 = (p1 >> 32) ^ c1 ^ (U4{} + k0);
      c1 = p1;
      c2 = (p0 >> 32) ^ c3 ^ (U4{} + k1);
      c3 = p0;
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    const U4 a = (c0 & mask) | (c1 << 32), b = (c2 & mask) | (c3 << 32);
    const U4 first = {a[0], b[0], a[2], b[2]}, second = {a[1], b[1], a[3], b[3]};
    store8(out + 4 * done, gumbel(reinterpret_cast<I8>(first)));
    store8(out + 4 * done + 8, gumbel(reinterpret_cast<I8>(second)));
  }
}

STK_INLINE void fill_gumbel(double* out, uint64_t group, int64_t groups, uint64_t seed,
                            uint64_t stream) {
  for (int64_t done = 0; done < groups; ++done) {
    const Philox4 words = philox(seed, stream, group + done);
    for (int i = 0; i < 4; ++i) {
      out[4 * done + i] = -std::log(-std::log1p(-(words.x[i] + 0.5) * 0x1p-32));
    }
  }
}

// Noise of one line; the element v of the line is at the returned pointer plus v.
template <typename T>
STK_INLINE const T* line_noise(T* buffer, int64_t line, int64_t count, uint64_t seed,
                               uint64_t stream) {
  const uint64_t begin = static_cast<uint64_t>(line) * count;
  const int64_t groups = static_cast<int64_t>((begin + count + 3) / 4 - begin / 4);
  fill_gumbel(buffer, begin / 4, groups, seed, stream);
  return buffer + begin % 4;
}

// Lines begin..end of a chunk whose first line is `base` overall: codes, stats, and the sum of the
// clean softmax per group, added to `probs` (G, V). False where a logit is not finite.
template <typename T>
bool choose_lines(const VqShape& shape, const Noise<T>& noise, const T* logits, int64_t base,
                  int64_t begin, int64_t end, T* scratch, int64_t* codes, T* stats, double* probs) {
  using P = typename Pack<T>::type;
  constexpr int64_t step = Pack<T>::width;
  constexpr T low = -std::numeric_limits<T>::infinity();
  const int64_t count = shape.codes, room = count + kPadding;
  T *noisy = scratch, *expo = scratch + room, *block = scratch + 2 * room;
  std::fill(block, block + shape.groups * room, T(0));
  bool finite = true;
  for (int64_t line = begin; line < end; ++line) {
    const T* from = logits + line * count;
    P top = P{} + low, best = top, bad = P{};
    if (noise.on) {
      const T* extra = line_noise(expo, base + line, count, noise.seed, noise.stream);
      for (int64_t i = 0; i < count; i += step) {
        const P x = load_part(from, i, count, low), y = x + load(extra + i);
        store(noisy + i, y);
        top = x > top ? x : top;
        best = y > best ? y : best;
      }
    } else {
      for (int64_t i = 0; i < count; i += step) {
        const P x = load_part(from, i, count, low);
        store(noisy + i, x);
        top = x > top ? x : top;
      }
      best = top;
    }
    const T clean_top = largest(top), noisy_top = largest(best);
    P clean = P{}, soft = P{};
    int64_t code = -1;
    for (int64_t i = 0; i < count; i += step) {
      const P x = load_part(from, i, count, clean_top);
      bad = bad + x * T(0);  // stays 0 unless x is not finite
      const P e = exponential(load_part(from, i, count, low) - clean_top);
      store(expo + i, e);
      clean = clean + e;
      if (noise.on) soft = soft + exponential((load(noisy + i) - noisy_top) * noise.scale);
    }
    for (int64_t i = 0; i < count && code < 0; i += step) {
      const int64_t lane = first_lane(load(noisy + i), noisy_top);
      if (lane >= 0) code = i + lane;
    }
    finite = finite && sum(bad) == T(0);
    codes[line] = code < 0 || code >= count ? 0 : code;
    const T total = sum(clean), share = T(1) / total;
    stats[line * kStats] = clean_top + std::log(total);
    stats[line * kStats + 1] = noise.on ? noisy_top * noise.scale + std::log(sum(soft)) : T(0);
    T* into = block + (line % shape.groups) * room;
    for (int64_t i = 0; i < count; i += step) store(into + i, load(into + i) + share * load(expo + i));
    // fp32 sums are handed on before they grow long.
    if ((line - begin) % kFlush == kFlush - 1 || line == end - 1) {
      for (int64_t g = 0; g < shape.groups; ++g) {
        for (int64_t v = 0; v < count; ++v) probs[g * count + v] += block[g * room + v];
      }
      std::fill(block, block + shape.groups * room, T(0));
    }
  }
  return finite;
}

// Gradient of the logits of lines begin..end, in place of `grad`, which comes in as the gradient of the
// soft choice (read only with `soft`). `mean` (G, V) is the gradient of mean_probs over N, or null.
template <typename T>
void differentiate_lines(const VqShape& shape, const Noise<T>& noise, const T* logits, int64_t base,
                         int64_t begin, int64_t end, T* scratch, const T* stats, bool use_soft,
                         const T* mean, T* grad) {
  using P = typename Pack<T>::type;
  constexpr int64_t step = Pack<T>::width;
  constexpr T low = -std::numeric_limits<T>::infinity();
  const int64_t count = shape.codes, room = count + kPadding;
  T *soft = scratch, *clean = scratch + room, *buffer = scratch + 2 * room;
  for (int64_t line = begin; line < end; ++line) {
    const T* from = logits + line * count;
    const T* slope = mean ? mean + (line % shape.groups) * count : nullptr;
    T* into = grad + line * count;
    P soft_dot = P{}, mean_dot = P{};
    if (use_soft) {
      const T* extra = line_noise(buffer, base + line, count, noise.seed, noise.stream);
      const T offset = stats[line * kStats + 1];
      for (int64_t i = 0; i < count; i += step) {
        const P y = load_part(from, i, count, low) + load(extra + i);
        const P p = exponential(y * noise.scale - offset);
        store(soft + i, p);
        soft_dot = soft_dot + p * load_part(into, i, count, T(0));
      }
    }
    if (slope) {
      const T offset = stats[line * kStats];
      for (int64_t i = 0; i < count; i += step) {
        const P q = exponential(load_part(from, i, count, low) - offset);
        store(clean + i, q);
        mean_dot = mean_dot + q * load_part(slope, i, count, T(0));
      }
    }
    const T soft_mean = sum(soft_dot), clean_mean = sum(mean_dot);
    for (int64_t i = 0; i < count; i += step) {
      P value = P{};
      if (use_soft) {
        const P g = load_part(into, i, count, T(0));
        value = load(soft + i) * (g - soft_mean) * noise.scale;
      }
      if (slope) {
        const P g = load_part(slope, i, count, T(0));
        value = value + load(clean + i) * (g - clean_mean);
      }
      store_part(into, i, count, value);
    }
  }
}
