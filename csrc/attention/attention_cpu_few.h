// A few queries per head (a decoding step): keys and values are read once, where they lie. Included
// per instruction set after attention_cpu_tiles.h.

// Sums of eight vectors: lane i of the result is the sum of rows[i].
STK_INLINE Simd<float>::V sums_of(Simd<float>::V* rows) {
  using V = Simd<float>::V;
  V pair[4];
  for (int i = 0; i < 4; ++i) {
    const V a = rows[i], b = rows[i + 4];
    // Halves of a beside halves of b.
    pair[i] = STK_SHUFFLE8(a, b, 0, 1, 2, 3, 8, 9, 10, 11) +
              STK_SHUFFLE8(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
  }
  V quad[2];
  for (int i = 0; i < 2; ++i) {
    const V a = pair[i], b = pair[i + 2];
    quad[i] = STK_SHUFFLE8(a, b, 0, 1, 8, 9, 4, 5, 12, 13) +
              STK_SHUFFLE8(a, b, 2, 3, 10, 11, 6, 7, 14, 15);
  }
  const V a = quad[0], b = quad[1];
  return STK_SHUFFLE8(a, b, 0, 8, 2, 10, 4, 12, 6, 14) +
         STK_SHUFFLE8(a, b, 1, 9, 3, 11, 5, 13, 7, 15);
}

// `width` elements of any storage type as vectors; whole vectors are read, so width is a multiple.
template <typename T, typename S>
STK_INLINE typename Simd<T>::V load_v(const S* from) {
  if constexpr (std::is_same_v<S, T>) {
    return at_v<T>(from);
  } else {
    typename Simd<T>::V value;
    for (int i = 0; i < kLanes<T>; ++i) value[i] = static_cast<T>(from[i]);
    return value;
  }
}

template <typename T, typename S>
STK_INLINE T dot(const T* a, const S* b, int64_t width) {
  constexpr int64_t L = kLanes<T>;
  typename Simd<T>::V sum{};
  int64_t c = 0;
  for (; c + L <= width; c += L) sum += at_v<T>(a + c) * load_v<T>(b + c);
  T total = sum_v<T>(sum);
  for (; c < width; ++c) total += a[c] * static_cast<T>(b[c]);
  return total;
}

// scores[j] = query . key j for `count` keys.
template <typename T, typename S>
void few_scores(const T* query, const S* keys, int64_t stride, int64_t count, int64_t width, T* scores) {
  int64_t j = 0;
  if constexpr (std::is_same_v<T, float>) {
    if (width % kLanes<T> == 0) {
      for (; j + 8 <= count; j += 8, keys += 8 * stride) {
        Simd<float>::V sums[8] = {};
        for (int64_t c = 0; c < width; c += kLanes<T>) {
          const Simd<float>::V q = at_v<T>(query + c);
#pragma GCC unroll 8
          for (int i = 0; i < 8; ++i) sums[i] += q * load_v<T>(keys + i * stride + c);
        }
        at_v<T>(scores + j) = sums_of(sums);
      }
    }
  }
  for (; j < count; ++j, keys += stride) scores[j] = dot<T>(query, keys, width);
}

// output (width) = sum of weights[j] * value j; kVectors vectors at a time stay in registers.
template <typename T, typename S>
void few_values(const T* weights, const S* values, int64_t stride, int64_t count, int64_t width,
                T factor, S* output) {
  constexpr int64_t L = kLanes<T>;
  constexpr int kVectors = 8;
  int64_t c = 0;
  for (; c + kVectors * L <= width; c += kVectors * L) {
    typename Simd<T>::V sums[kVectors] = {};
    for (int64_t j = 0; j < count; ++j) {
      const S* row = values + j * stride + c;
#pragma GCC unroll 8
      for (int i = 0; i < kVectors; ++i) sums[i] += weights[j] * load_v<T>(row + i * L);
    }
    for (int i = 0; i < kVectors; ++i) {
      for (int l = 0; l < L; ++l) output[c + i * L + l] = static_cast<S>(sums[i][l] * factor);
    }
  }
  for (; c + L <= width; c += L) {
    typename Simd<T>::V sum{};
    for (int64_t j = 0; j < count; ++j) sum += weights[j] * load_v<T>(values + j * stride + c);
    for (int l = 0; l < L; ++l) output[c + l] = static_cast<S>(sum[l] * factor);
  }
  for (; c < width; ++c) {
    T sum = 0;
    for (int64_t j = 0; j < count; ++j) sum += weights[j] * static_cast<T>(values[j * stride + c]);
    output[c] = static_cast<S>(sum * factor);
  }
}

template <typename S>
void few_queries(const Forward<S>& p, int64_t begin, int64_t end) {
  using T = float_of<S>;
  const int64_t keys = (p.key_count + 31) / 32 * 32;  // as far as drop_row may reach
  Arena& memory = arena();
  memory.reserve(Arena::bytes<T>(p.width) + Arena::bytes<T>(keys));
  T* query = memory.take<T>(p.width);
  T* scores = memory.take<T>(keys);
  for (int64_t head = begin; head < end; ++head) {
    const int64_t batch = head / p.heads, real = p.real_queries(batch);
    for (int64_t i = 0; i < p.query_count; ++i) {
      const int64_t count = i < real ? p.visible_keys(batch, i) : 0;
      const int64_t row = head * p.query_count + i;
      S* output = p.output.head(head) + i * p.output.row;
      if (count == 0) {
        blank_row(p, head, i);
        continue;
      }
      copy_rows<T>(p.query.head(head) + i * p.query.row, 0, 1, p.width,
                   static_cast<T>(p.scale * kLog2E), query, p.width);
      few_scores<T, S>(query, p.key.head(head), p.key.row, count, p.width, scores);
      T highest = -std::numeric_limits<T>::infinity(), total = 0;
      soften_row<T>(scores, count, count, highest, total);
      if (p.dropout.on()) {
        drop_row<T>(count, static_cast<uint64_t>(row) * p.row_groups(), p.dropout, scores);
      }
      few_values<T, S>(scores, p.value.head(head), p.value.row, count, p.value_width, T(1) / total,
                       output);
      p.logsumexp[row] = highest / T(kLog2E) + std::log(total);
    }
  }
}
