// Eight frames at once, one in each vector lane: from samples to log-mel energies. Included by
// fbank_cpu.cpp once per instruction set and precision, inside a namespace that defines
//   Real, V                    a scalar and eight lanes of it
//   V log_lanes(V)             logarithm of positive numbers
//   void transpose_lanes(V*)   8 x 8 transpose
// so it has no include guard and no includes.

STK_INLINE V load(const Real* from) {
  V value;
  __builtin_memcpy(&value, from, sizeof(V));
  return value;
}

STK_INLINE void store(Real* to, V value) { __builtin_memcpy(to, &value, sizeof(V)); }

STK_INLINE V splat(Real value) {
  return V{value, value, value, value, value, value, value, value};
}

// samples: lane l's frame begins at samples[l * shift] -> frame[n * 8 + l]; the lanes' means.
inline V gather(const FbankShape& shape, const Real* samples, const Real* noise, Real* frame) {
  const int64_t size = shape.window, shift = shape.shift;
  const int64_t whole = size - size % 8;
  for (int64_t n = 0; n < whole; n += 8) {
    V rows[8];
    for (int l = 0; l < 8; ++l) rows[l] = load(samples + l * shift + n);
    transpose_lanes(rows);
    for (int i = 0; i < 8; ++i) store(frame + (n + i) * 8, rows[i]);
  }
  for (int64_t n = whole; n < size; ++n) {
    for (int l = 0; l < 8; ++l) frame[n * 8 + l] = samples[l * shift + n];
  }
  // Eight partial sums keep rounding small and the additions independent.
  V sums[8] = {};
  for (int64_t n = 0; n < size; ++n) {
    V value = load(frame + n * 8);
    if (noise) {
      value += load(noise + n * 8);
      store(frame + n * 8, value);
    }
    sums[n % 8] += value;
  }
  const V total = ((sums[0] + sums[1]) + (sums[2] + sums[3])) +
                  ((sums[4] + sums[5]) + (sums[6] + sums[7]));
  return shape.remove_dc ? total / static_cast<Real>(size) : splat(0);
}

// Mean, pre-emphasis and window, in place; zeros up to the transform's size.
inline void shape_frame(const FbankShape& shape, const Real* window, V mean, Real* frame) {
  const Real c = static_cast<Real>(shape.preemphasis);
  V before = load(frame) - mean;
  for (int64_t n = 0; n < shape.window; ++n) {
    const V value = load(frame + n * 8) - mean;
    store(frame + n * 8, (value - c * before) * window[n]);
    before = value;
  }
  for (int64_t n = shape.window; n < shape.fft; ++n) store(frame + n * 8, splat(0));
}

struct Complex {
  V re, im;
};

STK_INLINE Complex get(const Real* z, int64_t k) { return {load(z + k * 16), load(z + k * 16 + 8)}; }

STK_INLINE void put(Real* z, int64_t k, Complex value) {
  store(z + k * 16, value.re);
  store(z + k * 16 + 8, value.im);
}

STK_INLINE Complex add(Complex a, Complex b) { return {a.re + b.re, a.im + b.im}; }
STK_INLINE Complex sub(Complex a, Complex b) { return {a.re - b.re, a.im - b.im}; }
STK_INLINE Complex times(Complex a, V re, V im) {
  return {a.re * re - a.im * im, a.re * im + a.im * re};
}

// z holds z[k] = x[2k] + i x[2k + 1], its lanes side by side: re at 16 k, im at 16 k + 8.
inline void transform(Real* z, int64_t points, const Real* twiddles) {
  int64_t size = points;
  for (; size >= 4; size /= 4) {
    const int64_t quarter = size / 4;
    for (int64_t j = 0; j < quarter; ++j, twiddles += 6) {
      const V r1 = splat(twiddles[0]), i1 = splat(twiddles[1]), r2 = splat(twiddles[2]);
      const V i2 = splat(twiddles[3]), r3 = splat(twiddles[4]), i3 = splat(twiddles[5]);
      for (int64_t k = j; k < points; k += size) {
        const Complex a = get(z, k), b = get(z, k + quarter);
        const Complex c = get(z, k + 2 * quarter), d = get(z, k + 3 * quarter);
        const Complex even = add(a, c), odd = sub(a, c), sum = add(b, d), gap = sub(b, d);
        const Complex turned = {gap.im, -gap.re};  // -i (b - d)
        put(z, k, add(even, sum));
        if (j == 0) {
          put(z, k + quarter, add(odd, turned));
          put(z, k + 2 * quarter, sub(even, sum));
          put(z, k + 3 * quarter, sub(odd, turned));
        } else {
          put(z, k + quarter, times(add(odd, turned), r1, i1));
          put(z, k + 2 * quarter, times(sub(even, sum), r2, i2));
          put(z, k + 3 * quarter, times(sub(odd, turned), r3, i3));
        }
      }
    }
  }
  if (size == 2) {
    for (int64_t k = 0; k < points; k += 2) {
      const Complex a = get(z, k), b = get(z, k + 1);
      put(z, k, add(a, b));
      put(z, k + 1, sub(a, b));
    }
  }
}

// Squared magnitudes of the real transform's frequencies 0 to points - 1.
inline void powers(const Real* z, int64_t points, const FbankTables<Real>& tables, Real* power) {
  const int32_t* at = tables.position.data();
  const Complex zero = get(z, 0);
  const V edge = zero.re + zero.im;
  store(power, edge * edge);
  for (int64_t k = 1; 2 * k <= points; ++k) {
    // With p = z[k] and q = conj(z[points - k]): 2 X[k] = (p + q) - i w^k (p - q), and X[points - k]
    // is the conjugate of the same with a plus.
    const Complex p = get(z, at[k]), other = get(z, at[points - k]);
    const Complex q = {other.re, -other.im};
    const Complex even = add(p, q), gap = sub(p, q);
    const Complex odd =
        times({gap.im, -gap.re}, splat(tables.split[2 * k]), splat(tables.split[2 * k + 1]));
    const Complex low = add(even, odd), high = sub(even, odd);
    const Real quarter = static_cast<Real>(0.25);
    store(power + (points - k) * 8, quarter * (high.re * high.re + high.im * high.im));
    store(power + k * 8, quarter * (low.re * low.re + low.im * low.im));
  }
}

STK_INLINE V energy(const FbankTables<Real>& tables, const Real* power, int64_t bin) {
  const int32_t start = tables.mel_start[bin], end = tables.mel_start[bin + 1];
  const Real* from = power + tables.mel_first[bin] * 8;
  V even = splat(0), odd = splat(0);
  int32_t i = start;
  for (; i + 1 < end; i += 2, from += 16) {
    even += tables.mel_weights[i] * load(from);
    odd += tables.mel_weights[i + 1] * load(from + 8);
  }
  if (i < end) even += tables.mel_weights[i] * load(from);
  const V sum = even + odd, floor = splat(kFbankLogFloor);
  return log_lanes(sum < floor ? floor : sum);  // a NaN stays one
}

// Log energies of the first `lanes` lanes into rows of `shape.bins` values.
inline void mel(const FbankShape& shape, const FbankTables<Real>& tables, const Real* power,
                const Real* mean, const Real* istd, int lanes, Real* rows) {
  for (int64_t first = 0; first < shape.bins; first += 8) {
    const int width = static_cast<int>(shape.bins - first < 8 ? shape.bins - first : 8);
    V tile[8];
    for (int i = 0; i < 8; ++i) {
      tile[i] = i < width ? energy(tables, power, first + i) : splat(0);
      if (mean && i < width) tile[i] = (tile[i] - mean[first + i]) * istd[first + i];
    }
    transpose_lanes(tile);
    for (int l = 0; l < lanes; ++l) {
      __builtin_memcpy(rows + l * shape.bins + first, &tile[l], width * sizeof(Real));
    }
  }
}

// The whole way of eight frames; `frame` holds fft * 8 values and `power` fft / 2 * 8.
inline void frames_to_mel(const FbankShape& shape, const FbankTables<Real>& tables, const Real* samples,
                  const Real* noise, const Real* mean, const Real* istd, int lanes, Real* frame,
                  Real* power, Real* rows) {
  const int64_t points = shape.fft / 2;
  shape_frame(shape, tables.window.data(), gather(shape, samples, noise, frame), frame);
  transform(frame, points, tables.twiddles.data());
  powers(frame, points, tables, power);
  if (!shape.use_power) {
    for (int64_t i = 0; i < points * 8; ++i) power[i] = std::sqrt(power[i]);
  }
  mel(shape, tables, power, mean, istd, lanes, rows);
}
