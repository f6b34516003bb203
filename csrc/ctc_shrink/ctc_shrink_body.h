// Loops of ctc_shrink on the CPU. Included once per instruction set (common/simd.h), after
// common/simd_math.h, so it has no include guard, no includes and no namespace of its own.
// The overloads on float use eight lanes; the templates beside them serve fp64.

template <typename T>
struct RowMax {
  T value;
  bool finite;
};

// Largest of x[0..count), -inf where count is 0; `finite`: no NaN or infinity among them.
template <typename T>
STK_INLINE RowMax<T> row_max(const T* x, int64_t count) {
  T best = -std::numeric_limits<T>::infinity(), bad = 0;  // 0 * x stays 0 unless x is not finite
  for (int64_t i = 0; i < count; ++i) {
    best = x[i] > best ? x[i] : best;
    bad += x[i] * T(0);
  }
  return {best, bad == T(0)};
}

STK_INLINE RowMax<float> row_max(const float* x, int64_t count) {
  const int64_t whole = count & ~int64_t(15);
  F8 best0 = splat8(-std::numeric_limits<float>::infinity()), best1 = best0;
  F8 bad0 = splat8(0.0f), bad1 = bad0;
  for (int64_t i = 0; i < whole; i += 16) {
    const F8 a = load8(x + i), b = load8(x + i + 8);
    best0 = a > best0 ? a : best0;
    best1 = b > best1 ? b : best1;
    bad0 = bad0 + a * 0.0f;
    bad1 = bad1 + b * 0.0f;
  }
  RowMax<float> result = row_max<float>(x + whole, count - whole);
  for (int lane = 0; lane < 8; ++lane) {
    const float best = best0[lane] > best1[lane] ? best0[lane] : best1[lane];
    result.value = best > result.value ? best : result.value;
    result.finite = result.finite && bad0[lane] + bad1[lane] == 0.0f;
  }
  return result;
}

// Lowest index of `value`; count where it does not occur.
template <typename T>
STK_INLINE int64_t first_equal(const T* x, int64_t count, T value) {
  int64_t i = 0;
  while (i < count && x[i] != value) ++i;
  return i;
}

STK_INLINE int64_t first_equal(const float* x, int64_t count, float value) {
  int64_t i = 0;
  for (; i + 32 <= count; i += 32) {
    const I8 hit = (load8(x + i) == value) | (load8(x + i + 8) == value) |
                   (load8(x + i + 16) == value) | (load8(x + i + 24) == value);
    uint64_t any[4];
    __builtin_memcpy(any, &hit, sizeof(any));
    if (any[0] | any[1] | any[2] | any[3]) break;
  }
  return i + first_equal<float>(x + i, count - i, value);
}

// out = scale * exp(x - top); `out` may be x.
template <typename T>
STK_INLINE void scaled_exp(T* out, const T* x, int64_t count, T top, T scale) {
  for (int64_t i = 0; i < count; ++i) out[i] = scale * std::exp(x[i] - top);
}

STK_INLINE void scaled_exp(float* out, const float* x, int64_t count, float top, float scale) {
  const int64_t whole = count & ~int64_t(7);
  for (int64_t i = 0; i < whole; i += 8) store8(out + i, scale * exp8(load8(x + i) - top));
  scaled_exp<float>(out + whole, x + whole, count - whole, top, scale);
}

// Sum of exp(x - top).
template <typename T>
STK_INLINE T sum_exp(const T* x, int64_t count, T top) {
  T sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += std::exp(x[i] - top);
  return sum;
}

STK_INLINE float sum_exp(const float* x, int64_t count, float top) {
  const int64_t whole = count & ~int64_t(7);
  F8 total = splat8(0.0f);
  for (int64_t i = 0; i < whole; i += 8) total = total + exp8(load8(x + i) - top);
  float sum = sum_exp<float>(x + whole, count - whole, top);
  for (int lane = 0; lane < 8; ++lane) sum += total[lane];
  return sum;
}

template <typename T>
STK_INLINE T dot(const T* a, const T* b, int64_t count) {
  T lanes[8] = {};
  const int64_t whole = count & ~int64_t(7);
  for (int64_t i = 0; i < whole; i += 8) {
    for (int lane = 0; lane < 8; ++lane) lanes[lane] += a[i + lane] * b[i + lane];
  }
  T sum = 0;
  for (int64_t i = whole; i < count; ++i) sum += a[i] * b[i];
  for (int lane = 0; lane < 8; ++lane) sum += lanes[lane];
  return sum;
}

// Labels of real frames begin..end of the flattened batch, and for `weighted` the probability of each
// label. False where a score is not finite.
template <typename T>
bool label_frames(const ScoreView<T>& view, int64_t begin, int64_t end, bool weighted,
                  int64_t* labels, T* weights) {
  bool finite = true;
  for (int64_t frame = begin; frame < end; ++frame) {
    const int64_t clip = frame / view.frames, t = frame % view.frames;
    if (t >= view.lengths[clip]) continue;
    const T* row = view.row(clip, t);
    const RowMax<T> best = row_max(row, view.width);
    finite = finite && best.finite;
    // Something not finite may equal nothing: keep the index in range until the error is raised.
    labels[frame] = best.finite ? first_equal(row, view.width, best.value) : 0;
    if (weighted) weights[frame] = T(1) / sum_exp(row, view.width, best.value);
  }
  return finite;
}

// The frame of an all-blank clip with the highest score of another label; its first such frame.
template <typename T>
int64_t nearest_to_speech(const ScoreView<T>& view, int64_t clip, int64_t blank) {
  int64_t nearest = 0;
  T best = -std::numeric_limits<T>::infinity();
  for (int64_t t = 0; t < view.lengths[clip]; ++t) {
    const T* row = view.row(clip, t);
    const T low = row_max(row, blank).value;
    const T high = row_max(row + blank + 1, view.width - blank - 1).value;
    const T value = low > high ? low : high;
    if (value > best) {
      best = value;
      nearest = t;
    }
  }
  return nearest;
}

// Output rows begin..end of the flattened batch: the weighted sum of a segment's frames, or zeros.
template <typename T>
void reduce_rows(const SegmentView<T>& view, int64_t begin, int64_t end, const T* states, T* out) {
  const int64_t width = view.width;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t clip = row / view.frames, segment = row % view.frames;
    T* into = out + row * width;
    if (segment >= view.counts[clip]) {
      std::memset(into, 0, width * sizeof(T));
      continue;
    }
    const int64_t first = clip * view.frames + view.starts[row];
    const int64_t last = (clip + 1) * view.frames;
    const T* from = states + first * width;
    // A weight of exactly 1 is the frame itself, also where it is not finite.
    const T scale = view.weights[first];
    for (int64_t i = 0; i < width; ++i) into[i] = scale * from[i];
    for (int64_t frame = first + 1; frame < last && view.segments[frame] == segment; ++frame) {
      const T weight = view.weights[frame];
      if (weight == T(0)) continue;
      from = states + frame * width;
      for (int64_t i = 0; i < width; ++i) into[i] += weight * from[i];
    }
  }
}

// Gradient of the scores of one run of frames [first, last) that share `grad`, the gradient of their
// segment: d p_t / sum p = w_t (g.h_t - sum_u w_u g.h_u), then through the softmax.
template <typename T>
void score_gradient(const ScoreView<T>& view, int64_t clip, int64_t first, int64_t last,
                    const T* grad, const T* states, int64_t width, const T* weights, T* out) {
  T mean = 0;
  for (int64_t t = first; t < last; ++t) mean += weights[t] * dot(grad, states + t * width, width);
  for (int64_t t = first; t < last; ++t) {
    const T slope = weights[t] * (dot(grad, states + t * width, width) - mean);
    T* into = out + t * view.width;
    if (last - first == 1 || slope == T(0)) {
      std::memset(into, 0, view.width * sizeof(T));  // the only frame of a run has weight 1
      continue;
    }
    const T* row = view.row(clip, t);
    const T top = row_max(row, view.width).value;
    scaled_exp(into, row, view.width, top, -slope / sum_exp(row, view.width, top));
    into[first_equal(row, view.width, top)] += slope;
  }
}
