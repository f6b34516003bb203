// Loads, stores and elementary functions on eight lanes. Included inside an STK_AVX2 region and once
// more outside (see simd.h), so it has no include guard, no includes and no namespace of its own.

STK_INLINE F8 load8(const float* from) {
  F8 value;
  __builtin_memcpy(&value, from, sizeof(value));
  return value;
}

STK_INLINE void store8(float* to, F8 value) { __builtin_memcpy(to, &value, sizeof(value)); }

STK_INLINE F8 splat8(float value) {
  return F8{value, value, value, value, value, value, value, value};
}

STK_INLINE F8 select8(I8 mask, F8 yes, F8 no) {
  return reinterpret_cast<F8>((mask & reinterpret_cast<I8>(yes)) |
                              (~mask & reinterpret_cast<I8>(no)));
}

STK_INLINE F8 max8(F8 a, F8 b) { return a > b ? a : b; }

STK_INLINE F8 min8(F8 a, F8 b) { return a < b ? a : b; }

// e * log(2) + log(1 + f) for f in [sqrt(1/2) - 1, sqrt(2) - 1]; keeps the relative precision of small f.
STK_INLINE F8 log8_of(F8 e, F8 f) {
  // log(1 + f) = 2 atanh(f / (2 + f)) by its odd series.
  const F8 s = f / (f + 2.0f);
  const F8 z = s * s;
  const F8 tail = z * (0.6666666666f + z * (0.4000000060f + z * (0.2857060432f + z * 0.2249713838f)));
  // log(1 + f) = f - f^2/2 + s * (f^2/2 + tail): the large term f stays exact.
  const F8 half = 0.5f * f * f;
  return e * 0.693359375f + (f - (half - (s * (half + tail) + e * -2.12194440e-4f)));
}

// Natural logarithm of positive normal numbers, within 2 ulp; infinity and NaN are their own.
STK_INLINE F8 log8(F8 x) {
  // x = m * 2^e with m in [sqrt(1/2), sqrt(2)).
  const I8 bits = reinterpret_cast<I8>(x);
  const I8 shifted = bits - 0x3f3504f3;
  const I8 exponent = shifted >> 23;
  const F8 mantissa = reinterpret_cast<F8>(bits - (exponent << 23));
  const F8 log = log8_of(__builtin_convertvector(exponent, F8), mantissa - 1.0f);
  return select8(x < __builtin_inff(), log, x);
}

// e^x; 0 below about -87.3, the largest finite power above 88.7, NaN of NaN; within 2 ulp between.
STK_INLINE F8 exp8(F8 x) {
  const F8 clamped = max8(min8(x, splat8(88.72283f)), splat8(-87.33654f));
  // Adding 1.5 * 2^23 rounds to an integer n; r = x - n log 2 in two steps, then a Taylor polynomial.
  const F8 shift = splat8(12582912.0f);
  const F8 rounded = clamped * 1.44269504f + shift;
  const F8 n = rounded - shift;
  const F8 r = (clamped - n * 0.693359375f) - n * -2.12194440e-4f;
  F8 p = splat8(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  // 2^n in two factors, so that n = 128 does not overflow on the way.
  const I8 whole = __builtin_convertvector(n, I8);
  const I8 first = whole >> 1;
  const F8 low = reinterpret_cast<F8>((first + 127) << 23);
  const F8 high = reinterpret_cast<F8>((whole - first + 127) << 23);
  const F8 power = select8(x < -87.33654f, splat8(0.0f), p * low * high);
  return select8(x == x, power, x);
}

// Rows become columns, in place.
STK_INLINE void transpose8(F8* row) {
  F8 pair[8], quad[8];
  for (int i = 0; i < 8; i += 2) {
    pair[i] = STK_SHUFFLE8(row[i], row[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    pair[i + 1] = STK_SHUFFLE8(row[i], row[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
  for (int i = 0; i < 8; i += 4) {
    quad[i] = STK_SHUFFLE8(pair[i], pair[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
    quad[i + 1] = STK_SHUFFLE8(pair[i], pair[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    quad[i + 2] = STK_SHUFFLE8(pair[i + 1], pair[i + 3], 0, 1, 8, 9, 4, 5, 12, 13);
    quad[i + 3] = STK_SHUFFLE8(pair[i + 1], pair[i + 3], 2, 3, 10, 11, 6, 7, 14, 15);
  }
  for (int i = 0; i < 4; ++i) {
    row[i] = STK_SHUFFLE8(quad[i], quad[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    row[i + 4] = STK_SHUFFLE8(quad[i], quad[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
}
