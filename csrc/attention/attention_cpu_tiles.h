// Vector arithmetic of the CPU attention kernel. attention_cpu.cpp includes this file once per
// instruction set, inside a namespace and a target region (see common/simd.h): no include guard and
// no includes in here.

// 32-byte vectors of the compiler's own kind, loaded from any address.
template <typename T>
struct Simd;

template <>
struct Simd<float> {
  typedef float V __attribute__((vector_size(32), aligned(4), may_alias));
  typedef int32_t I __attribute__((vector_size(32), aligned(4), may_alias));
};

template <>
struct Simd<double> {
  typedef double V __attribute__((vector_size(32), aligned(8), may_alias));
};

template <typename T>
constexpr int64_t kLanes = 32 / sizeof(T);

// Width of a panel: the columns that one micro-kernel call produces.
template <typename T>
constexpr int64_t kPanel = 2 * kLanes<T>;

// Rows that one micro-kernel call produces: 6 x 2 accumulators leave 4 of 16 registers.
constexpr int64_t kRows = 6;

template <typename T>
inline int64_t padded(int64_t n) {
  return (n + kPanel<T> - 1) / kPanel<T> * kPanel<T>;
}

template <typename T>
STK_INLINE typename Simd<T>::V& at_v(T* p) {
  return *reinterpret_cast<typename Simd<T>::V*>(p);
}

template <typename T>
STK_INLINE const typename Simd<T>::V& at_v(const T* p) {
  return *reinterpret_cast<const typename Simd<T>::V*>(p);
}

// C (MR x kPanel) = or += A (MR x depth) B (depth x kPanel). A is read element by element, so its
// transpose costs nothing: A(i, k) is a[k * lda + i] where `transposed`, a[i * lda + k] otherwise.
template <typename T, int MR, bool transposed>
void micro_kernel(int64_t depth, const T* a, int64_t lda, const T* b, int64_t ldb, T* c,
                  int64_t ldc, bool accumulate) {
  using V = typename Simd<T>::V;
  constexpr int64_t L = kLanes<T>;
  V acc[MR][2];
#pragma GCC unroll 8
  for (int i = 0; i < MR; ++i) {
    acc[i][0] = accumulate ? at_v<T>(c + i * ldc) : V{};
    acc[i][1] = accumulate ? at_v<T>(c + i * ldc + L) : V{};
  }
  for (int64_t k = 0; k < depth; ++k) {
    const V b0 = at_v<T>(b), b1 = at_v<T>(b + L);
    b += ldb;
#pragma GCC unroll 8
    for (int i = 0; i < MR; ++i) {
      const T x = transposed ? a[i] : a[i * lda];
      acc[i][0] += x * b0;
      acc[i][1] += x * b1;
    }
    a += transposed ? lda : 1;
  }
#pragma GCC unroll 8
  for (int i = 0; i < MR; ++i) {
    at_v<T>(c + i * ldc) = acc[i][0];
    at_v<T>(c + i * ldc + L) = acc[i][1];
  }
}

// The same for 1 to kRows rows.
template <typename T, bool transposed>
STK_INLINE void multiply_rows(int64_t rows, int64_t depth, const T* a, int64_t lda, const T* b,
                              int64_t ldb, T* c, int64_t ldc, bool accumulate) {
  switch (rows) {
    case 6: return micro_kernel<T, 6, transposed>(depth, a, lda, b, ldb, c, ldc, accumulate);
    case 5: return micro_kernel<T, 5, transposed>(depth, a, lda, b, ldb, c, ldc, accumulate);
    case 4: return micro_kernel<T, 4, transposed>(depth, a, lda, b, ldb, c, ldc, accumulate);
    case 3: return micro_kernel<T, 3, transposed>(depth, a, lda, b, ldb, c, ldc, accumulate);
    case 2: return micro_kernel<T, 2, transposed>(depth, a, lda, b, ldb, c, ldc, accumulate);
    default: return micro_kernel<T, 1, transposed>(depth, a, lda, b, ldb, c, ldc, accumulate);
  }
}

// 2^x for x <= about 127; 0 for x <= -127 and for -inf; NaN stays NaN. Relative error under 3e-7:
// the integer part goes to the exponent, the rest in [-0.5, 0.5] to a polynomial (the Taylor
// series of 2^f, whose first dropped term is 7e-9 there).
STK_INLINE Simd<float>::V exp2_v(Simd<float>::V x) {
  using V = Simd<float>::V;
  using I = Simd<float>::I;
  x = x < -127.0f ? V{} - 127.0f : x;
  const V shifter = V{} + 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const V shifted = x + shifter;
  const V f = x - (shifted - shifter);
  V p = V{} + 1.5403530e-4f;
  p = p * f + 1.3333558e-3f;
  p = p * f + 9.6181291e-3f;
  p = p * f + 5.5504109e-2f;
  p = p * f + 2.4022651e-1f;
  p = p * f + 6.9314718e-1f;
  p = p * f + 1.0f;
  // The low bits of `shifted` hold the integer: + 127 makes it an exponent, and 0 for -127.
  const I exponent = (reinterpret_cast<const I&>(shifted) + 127) << 23;
  return p * reinterpret_cast<const V&>(exponent);
}

STK_INLINE Simd<double>::V exp2_v(Simd<double>::V x) {
  for (int i = 0; i < kLanes<double>; ++i) x[i] = std::exp2(x[i]);
  return x;
}

template <typename T>
STK_INLINE T sum_v(typename Simd<T>::V v) {
  T total = v[0];
  for (int i = 1; i < kLanes<T>; ++i) total += v[i];
  return total;
}

template <typename T>
STK_INLINE T max_v(typename Simd<T>::V v) {
  T best = v[0];
  for (int i = 1; i < kLanes<T>; ++i) best = v[i] > best ? v[i] : best;
  return best;
}

// Copies rows x width elements to `to` (row pitch `pitch`, zero beyond width), times `factor`.
template <typename T, typename S>
void copy_rows(const S* from, int64_t stride, int64_t rows, int64_t width, T factor, T* to,
               int64_t pitch) {
  for (int64_t r = 0; r < rows; ++r) {
    const S* source = from + r * stride;
    T* target = to + r * pitch;
    for (int64_t c = 0; c < width; ++c) target[c] = static_cast<T>(source[c]) * factor;
    for (int64_t c = width; c < pitch; ++c) target[c] = 0;
  }
}

// Transposes rows x width elements to panels: to[(r / P) * width * P + c * P + r % P], P = kPanel,
// zero for the rows that fill up the last panel.
template <typename T, typename S>
void pack_panels(const S* from, int64_t stride, int64_t rows, int64_t width, T* to) {
  constexpr int64_t P = kPanel<T>;
  for (int64_t r0 = 0; r0 < rows; r0 += P, to += width * P) {
    const int64_t count = std::min(P, rows - r0);
    const S* source = from + r0 * stride;
    if (count == P) {
      for (int64_t c = 0; c < width; ++c) {
#pragma GCC unroll 16
        for (int64_t r = 0; r < P; ++r) to[c * P + r] = static_cast<T>(source[r * stride + c]);
      }
      continue;
    }
    for (int64_t c = 0; c < width; ++c) {
      for (int64_t r = 0; r < P; ++r) {
        to[c * P + r] = r < count ? static_cast<T>(source[r * stride + c]) : T(0);
      }
    }
  }
}
