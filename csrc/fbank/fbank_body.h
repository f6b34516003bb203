// Eight frames at once, from samples to log-mel energies: the transform works on four frames at a time, one in
// each lane of a vector of doubles, and the mel sums on eight. All that precedes the power spectrum is
// fp64: an fp32 transform would put its rounding, relative to the whole spectrum's energy, on bins that
// hold little of it, and be farther from the exact value than Kaldi's own features are.
//
// Included by fbank_cpu.cpp once per instruction set and precision, inside a namespace that defines
//   Real, V                    type of the features and eight lanes of it
//   V log_lanes(V)             logarithm of positive numbers
//   void transpose_lanes(V*)   8 x 8 transpose
//   Real4                      four lanes of Real
// so it has no include guard and no includes.

STK_INLINE V load(const Real* from) {
  V value;
  __builtin_memcpy(&value, from, sizeof(V));
  return value;
}

STK_INLINE V splat(Real value) {
  return V{value, value, value, value, value, value, value, value};
}

STK_INLINE D4 load4(const double* from) {
  D4 value;
  __builtin_memcpy(&value, from, sizeof(D4));
  return value;
}

STK_INLINE void store4(double* to, D4 value) { __builtin_memcpy(to, &value, sizeof(D4)); }

STK_INLINE D4 splat4(double value) { return D4{value, value, value, value}; }

// Four samples of one frame in fp64.
STK_INLINE D4 widen(const Real* from) {
  Real4 value;
  __builtin_memcpy(&value, from, sizeof(Real4));
  return __builtin_convertvector(value, D4);
}

// samples: lane l's frame begins at samples[l * shift] -> frame[n * 4 + l]; returns the lanes' means.
inline D4 gather(const FbankShape& shape, const Real* samples, const double* noise, double* frame) {
  const int64_t size = shape.window, shift = shape.shift;
  const int64_t whole = size - size % 4;
  D4 sums[4] = {};
  for (int64_t n = 0; n < whole; n += 4) {
    const D4 a = widen(samples + n), b = widen(samples + shift + n);
    const D4 c = widen(samples + 2 * shift + n), d = widen(samples + 3 * shift + n);
    const D4 ab0 = STK_SHUFFLE4(a, b, 0, 4, 2, 6), ab1 = STK_SHUFFLE4(a, b, 1, 5, 3, 7);
    const D4 cd0 = STK_SHUFFLE4(c, d, 0, 4, 2, 6), cd1 = STK_SHUFFLE4(c, d, 1, 5, 3, 7);
    D4 columns[4] = {STK_SHUFFLE4(ab0, cd0, 0, 1, 4, 5), STK_SHUFFLE4(ab1, cd1, 0, 1, 4, 5),
                     STK_SHUFFLE4(ab0, cd0, 2, 3, 6, 7), STK_SHUFFLE4(ab1, cd1, 2, 3, 6, 7)};
    for (int i = 0; i < 4; ++i) {
      if (noise) columns[i] += load4(noise + (n + i) * 8);
      sums[i] += columns[i];
      store4(frame + (n + i) * 4, columns[i]);
    }
  }
  for (int64_t n = whole; n < size; ++n) {
    D4 column;
    for (int l = 0; l < 4; ++l) column[l] = samples[l * shift + n];
    if (noise) column += load4(noise + n * 8);
    sums[0] += column;
    store4(frame + n * 4, column);
  }
  const D4 total = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  return shape.remove_dc ? total / static_cast<double>(size) : splat4(0.0);
}

// Mean, pre-emphasis and window, in place; zeros up to the transform's size.
inline void shape_frame(const FbankShape& shape, const double* window, D4 mean, double* frame) {
  const double c = shape.preemphasis;
  D4 before = load4(frame) - mean;
  for (int64_t n = 0; n < shape.window; ++n) {
    const D4 value = load4(frame + n * 4) - mean;
    store4(frame + n * 4, (value - c * before) * window[n]);
    before = value;
  }
  for (int64_t n = shape.window; n < shape.fft; ++n) store4(frame + n * 4, splat4(0.0));
}

struct Complex {
  D4 re, im;
};

STK_INLINE Complex get(const double* z, int64_t k) {
  return {load4(z + k * 8), load4(z + k * 8 + 4)};
}

STK_INLINE void put(double* z, int64_t k, Complex value) {
  store4(z + k * 8, value.re);
  store4(z + k * 8 + 4, value.im);
}

STK_INLINE Complex add(Complex a, Complex b) { return {a.re + b.re, a.im + b.im}; }
STK_INLINE Complex sub(Complex a, Complex b) { return {a.re - b.re, a.im - b.im}; }
STK_INLINE Complex times(Complex a, D4 re, D4 im) {
  return {a.re * re - a.im * im, a.re * im + a.im * re};
}

// z holds z[k] = x[2k] + i x[2k + 1], its lanes side by side: re at 8 k, im at 8 k + 4.
inline void transform(double* z, int64_t points, const double* twiddles) {
  int64_t size = points;
  for (; size >= 4; size /= 4) {
    const int64_t quarter = size / 4;
    for (int64_t j = 0; j < quarter; ++j, twiddles += 6) {
      const D4 r1 = splat4(twiddles[0]), i1 = splat4(twiddles[1]), r2 = splat4(twiddles[2]);
      const D4 i2 = splat4(twiddles[3]), r3 = splat4(twiddles[4]), i3 = splat4(twiddles[5]);
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

// |scale * value|^2, or its root.
STK_INLINE void store_power(Real* to, Complex value, double scale, bool use_power) {
  D4 power = (value.re * value.re + value.im * value.im) * (scale * scale);
  if (!use_power) {
    for (int l = 0; l < 4; ++l) power[l] = std::sqrt(power[l]);
  }
  const Real4 narrow = __builtin_convertvector(power, Real4);
  __builtin_memcpy(to, &narrow, sizeof(Real4));
}

// Squared magnitudes (or magnitudes) of the real transform's frequencies 0 to points - 1, every eighth
// value of `power`.
inline void powers(const double* z, int64_t points, const FbankTables<Real>& tables, bool use_power,
                   Real* power) {
  const int32_t* at = tables.position.data();
  const Complex zero = get(z, 0);
  store_power(power, {zero.re + zero.im, splat4(0.0)}, 1.0, use_power);
  for (int64_t k = 1; 2 * k <= points; ++k) {
    // With p = z[k] and q = conj(z[points - k]): 2 X[k] = (p + q) - i w^k (p - q), and X[points - k]
    // is the conjugate of the same with a plus.
    const Complex p = get(z, at[k]), other = get(z, at[points - k]);
    const Complex q = {other.re, -other.im};
    const Complex even = add(p, q), gap = sub(p, q);
    const double* turn = tables.turns.data() + 2 * k;
    const Complex odd = times({gap.im, -gap.re}, splat4(turn[0]), splat4(turn[1]));
    store_power(power + (points - k) * 8, sub(even, odd), 0.5, use_power);
    store_power(power + k * 8, add(even, odd), 0.5, use_power);
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

// The whole way of eight frames; `frame` holds fft * 4 values and `power` fft / 2 * 8.
inline void frames_to_mel(const FbankShape& shape, const FbankTables<Real>& tables,
                          const Real* samples, const double* noise, const Real* mean,
                          const Real* istd, int lanes, double* frame, Real* power, Real* rows) {
  const int64_t points = shape.fft / 2;
  for (int half = 0; half < 2; ++half) {
    const Real* from = samples + 4 * half * shape.shift;
    const D4 dc = gather(shape, from, noise ? noise + 4 * half : nullptr, frame);
    shape_frame(shape, tables.window.data(), dc, frame);
    transform(frame, points, tables.twiddles.data());
    powers(frame, points, tables, shape.use_power, power + 4 * half);
  }
  mel(shape, tables, power, mean, istd, lanes, rows);
}
