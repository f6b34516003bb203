// Forward of prefix attention on the CPU: included per instruction set after attention_cpu_tiles.h.
//
// One task is a block of kQueryBlock queries of one head. Its scores live in one tile of
// kQueryBlock x kKeyBlock; maximum and sum of each row are carried from tile to tile (Milakov and
// Gimelshein, 2018; Dao et al., 2022). Scores are in base 2: the queries carry scale * log2(e).

constexpr int64_t kQueryBlock = 96;
constexpr int64_t kKeyBlock = 128;

// Keys and values of one head, packed as far as they were needed yet.
template <typename T>
struct PackedHead {
  int64_t head = -1;
  int64_t packed = 0;  // keys
  T* keys;             // panels
  T* values;           // rows

  template <typename S>
  void require(const Forward<S>& p, int64_t index, int64_t count) {
    if (head != index) head = index, packed = 0;
    if (count <= packed) return;
    const int64_t upto = std::min(padded<T>(count), p.key_count);
    const int64_t rows = upto - packed;
    const int64_t pitch = padded<T>(p.value_width);
    pack_panels<T>(p.key.head(index) + packed * p.key.row, p.key.row, rows, p.width,
                   keys + packed * p.width);
    copy_rows<T>(p.value.head(index) + packed * p.value.row, p.value.row, rows, p.value_width, T(1),
                 values + packed * pitch, pitch);
    packed = upto;
  }
};

// Softmax numerators of one row of a tile, in place; `count` columns are visible, columns up to
// `width` become zero. Returns the factor by which what was accumulated before has to shrink.
template <typename T>
STK_INLINE T soften_row(T* row, int64_t count, int64_t width, T& highest, T& total) {
  using V = typename Simd<T>::V;
  constexpr int64_t L = kLanes<T>;
  constexpr T kLowest = -std::numeric_limits<T>::infinity();
  const int64_t full = (count + L - 1) / L * L;
  for (int64_t c = count; c < full; ++c) row[c] = kLowest;
  V best = V{} + kLowest;
  for (int64_t c = 0; c < full; c += L) {
    const V x = at_v<T>(row + c);
    best = best > x ? best : x;
  }
  const T before = highest;
  highest = std::max(before, max_v<T>(best));
  // A row of -inf alone has no maximum to subtract.
  const T shift = highest == kLowest ? T(0) : highest;
  V sum{};
  for (int64_t c = 0; c < full; c += L) {
    const V e = exp2_v(at_v<T>(row + c) - shift);
    at_v<T>(row + c) = e;
    sum += e;
  }
  for (int64_t c = full; c < width; ++c) row[c] = 0;
  const T shrink = before == kLowest ? T(0) : std::exp2(before - shift);
  total = total * shrink + sum_v<T>(sum);
  return shrink;
}

// Calls `take(c, factors)` for a vector of dropout's factors (0 or 1 / (1 - p)) of `count` weights at a time,
// up to the next multiple of 32; `group` is that of the first.
template <typename T, class Take>
STK_INLINE void draw_row(int64_t count, uint64_t group, const Dropout& dropout, Take take) {
  using V = typename Simd<T>::V;
  const T factor = static_cast<T>(dropout.factor);
  for (int64_t c = 0; c < count; c += 32) {
    U8 words[4];
    philox_8(dropout.seed, dropout.offset, group + c / 4, words);
    if constexpr (std::is_same_v<T, float>) {
      const I8 kept = reinterpret_cast<I8>(F8{} + factor);
      for (int i = 0; i < 4; ++i) {
        take(c + 8 * i, reinterpret_cast<V>((words[i] >= dropout.threshold) & kept));
      }
    } else {
      for (int i = 0; i < 32; i += kLanes<T>) {
        V factors;
        for (int lane = 0; lane < kLanes<T>; ++lane) {
          const uint32_t word = words[(i + lane) / 8][(i + lane) % 8];
          factors[lane] = word >= dropout.threshold ? factor : T(0);
        }
        take(c + i, factors);
      }
    }
  }
}

template <typename T>
void keep_row(int64_t count, uint64_t group, const Dropout& dropout, T* keep) {
  draw_row<T>(count, group, dropout, [&](int64_t c, auto factors) { at_v<T>(keep + c) = factors; });
}

// Weights times their factors in place; what lies between `count` and the next multiple of 32 may be
// anything, and is.
template <typename T>
void drop_row(int64_t count, uint64_t group, const Dropout& dropout, T* weights) {
  draw_row<T>(count, group, dropout, [&](int64_t c, auto factors) { at_v<T>(weights + c) *= factors; });
}

// Columns of each row of the tile that starts at key `first`, and the most within each group of kRows.
STK_INLINE int64_t tile_counts(const int64_t* visible, int64_t rows, int64_t first, int64_t width,
                           int64_t* counts, int64_t* group_counts) {
  int64_t most = 0;
  for (int64_t g = 0; g * kRows < rows; ++g) {
    int64_t group = 0;
    for (int64_t r = g * kRows; r < std::min(rows, (g + 1) * kRows); ++r) {
      counts[r] = std::min(std::max<int64_t>(visible[r] - first, 0), width);
      group = std::max(group, counts[r]);
    }
    group_counts[g] = group;
    most = std::max(most, group);
  }
  return most;
}

// tile (rows x columns) = a (rows x depth) times panels; only as far as a group of rows needs it.
template <typename T>
STK_INLINE void score_tile(const T* a, int64_t lda, int64_t rows, int64_t depth, const T* panels,
                           int64_t most, const int64_t* group_counts, T* tile, int64_t ldt) {
  constexpr int64_t P = kPanel<T>;
  for (int64_t c = 0; c < most; c += P, panels += depth * P) {
    for (int64_t r = 0, g = 0; r < rows; r += kRows, ++g) {
      if (group_counts[g] <= c) continue;
      multiply_rows<T, false>(std::min(kRows, rows - r), depth, a + r * lda, lda, panels, P,
                              tile + r * ldt + c, ldt, false);
    }
  }
}

template <typename T>
struct ForwardScratch {
  T *queries, *tile, *output;
  T highest[kQueryBlock], total[kQueryBlock];
  int64_t visible[kQueryBlock], counts[kQueryBlock], group_counts[kQueryBlock / kRows];
};

template <typename T, typename S>
void forward_tile(const Forward<S>& p, const PackedHead<T>& packed, ForwardScratch<T>& s, int64_t rows,
                  int64_t first, int64_t limit, uint64_t first_row) {
  constexpr int64_t P = kPanel<T>;
  const int64_t pitch = padded<T>(p.value_width);
  const int64_t most = tile_counts(s.visible, rows, first, std::min(kKeyBlock, limit - first), s.counts,
                                   s.group_counts);
  score_tile<T>(s.queries, p.width, rows, p.width, packed.keys + first * p.width, most, s.group_counts,
                s.tile, kKeyBlock);
  for (int64_t r = 0; r < rows; ++r) {
    T* row = s.tile + r * kKeyBlock;
    const int64_t group = s.group_counts[r / kRows];
    if (group == 0) continue;
    const T shrink = soften_row<T>(row, s.counts[r], group, s.highest[r], s.total[r]);
    if (p.dropout.on()) {
      drop_row<T>(s.counts[r], (first_row + r) * p.row_groups() + first / 4, p.dropout, row);
    }
    if (first > 0 && shrink != T(1)) {
      for (int64_t c = 0; c < pitch; c += P) {
        at_v<T>(s.output + r * pitch + c) *= shrink;
        at_v<T>(s.output + r * pitch + c + P / 2) *= shrink;
      }
    }
  }
  for (int64_t c = 0; c < pitch; c += P) {
    for (int64_t r = 0, g = 0; r < rows; r += kRows, ++g) {
      if (s.group_counts[g] == 0) continue;
      multiply_rows<T, false>(std::min(kRows, rows - r), s.group_counts[g], s.tile + r * kKeyBlock,
                              kKeyBlock, packed.values + first * pitch + c, pitch,
                              s.output + r * pitch + c, pitch, true);
    }
  }
}

// A query that sees nothing: zero, and an infinite log-sum-exp, so that exp(x - it) = 0.
template <typename S>
void blank_row(const Forward<S>& p, int64_t head, int64_t i) {
  std::fill_n(p.output.head(head) + i * p.output.row, p.value_width, S(0));
  p.logsumexp[head * p.query_count + i] = std::numeric_limits<float_of<S>>::infinity();
}

template <typename T, typename S>
void forward_block(const Forward<S>& p, PackedHead<T>& packed, ForwardScratch<T>& s, int64_t head,
                   int64_t start) {
  const int64_t batch = head / p.heads;
  const int64_t all = std::min(kQueryBlock, p.query_count - start);
  const int64_t rows = std::max<int64_t>(std::min(all, p.real_queries(batch) - start), 0);
  for (int64_t r = 0; r < all; ++r) {
    if (r >= rows || p.visible_keys(batch, start + r) == 0) blank_row(p, head, start + r);
  }
  int64_t limit = 0;
  for (int64_t r = 0; r < rows; ++r) {
    s.visible[r] = p.visible_keys(batch, start + r);
    limit = std::max(limit, s.visible[r]);
    s.highest[r] = -std::numeric_limits<T>::infinity();
    s.total[r] = 0;
  }
  if (limit == 0) return;
  const int64_t pitch = padded<T>(p.value_width);
  packed.require(p, head, limit);
  copy_rows<T>(p.query.head(head) + start * p.query.row, p.query.row, rows, p.width,
               static_cast<T>(p.scale * kLog2E), s.queries, p.width);
  std::fill_n(s.output, rows * pitch, T(0));
  const uint64_t first_row = static_cast<uint64_t>(head * p.query_count + start);
  for (int64_t first = 0; first < limit; first += kKeyBlock) {
    forward_tile<T, S>(p, packed, s, rows, first, limit, first_row);
  }
  for (int64_t r = 0; r < rows; ++r) {
    if (s.visible[r] == 0) continue;
    const T factor = T(1) / s.total[r];
    S* target = p.output.head(head) + (start + r) * p.output.row;
    const T* source = s.output + r * pitch;
    for (int64_t c = 0; c < p.value_width; ++c) target[c] = static_cast<S>(source[c] * factor);
    p.logsumexp[first_row + r] =
        static_cast<float_of<S>>(s.highest[r] / T(kLog2E) + std::log(s.total[r]));
  }
}

template <typename S>
void forward_heads(const Forward<S>& p, int64_t begin, int64_t end) {
  using T = float_of<S>;
  const int64_t blocks = (p.query_count + kQueryBlock - 1) / kQueryBlock;
  const int64_t keys = padded<T>(p.key_count), pitch = padded<T>(p.value_width);
  const int64_t sizes[] = {keys * p.width, keys * pitch, kQueryBlock * p.width,
                           kQueryBlock * kKeyBlock, kQueryBlock * pitch};
  int64_t bytes = 0;
  for (const int64_t size : sizes) bytes += Arena::bytes<T>(size);
  Arena& memory = arena();
  memory.reserve(bytes);
  PackedHead<T> packed;
  ForwardScratch<T> scratch;
  packed.keys = memory.take<T>(sizes[0]);
  packed.values = memory.take<T>(sizes[1]);
  scratch.queries = memory.take<T>(sizes[2]);
  scratch.tile = memory.take<T>(sizes[3]);
  scratch.output = memory.take<T>(sizes[4]);
  for (int64_t task = begin; task < end; ++task) {
    forward_block<T, S>(p, packed, scratch, task / blocks, task % blocks * kQueryBlock);
  }
}
