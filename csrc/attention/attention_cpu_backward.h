// Backward of prefix attention on the CPU: included per instruction set after
// attention_cpu_forward.h.
//
// One task is one head. Blocks of keys are the outer loop, so that the gradients of keys and values
// are finished block by block; those of the queries add up over blocks, in a fixed order.

template <typename T>
struct BackwardScratch {
  T *queries, *grads;                           // rows: scale * log2(e) * query; grad of the output
  T *key_panels, *value_panels, *keys;          // the last: rows
  T *query_grad, *key_grad, *value_grad;        // rows; the last two: of one block
  T *weights, *slopes;                          // tiles: P, and dP that becomes dS
  T *logsumexp, *delta;                         // per query: base 2; sum of grad * output
  int64_t* visible;                             // per query
  T keep[kKeyBlock];
  int64_t counts[kQueryBlock], group_counts[kQueryBlock / kRows];

  BackwardScratch(const Shape& p, Arena& memory) {
    const int64_t pitch = padded<T>(p.width), value_pitch = padded<T>(p.value_width);
    const int64_t key_rows = padded<T>(p.key_count), query_rows = p.query_count;
    struct Piece {
      T** where;
      int64_t size;
    };
    const Piece pieces[] = {{&queries, query_rows * pitch},
                            {&grads, query_rows * value_pitch},
                            {&key_panels, key_rows * p.width},
                            {&value_panels, key_rows * p.value_width},
                            {&keys, key_rows * pitch},
                            {&query_grad, query_rows * pitch},
                            {&key_grad, kKeyBlock * pitch},
                            {&value_grad, kKeyBlock * value_pitch},
                            {&weights, kQueryBlock * kKeyBlock},
                            {&slopes, kQueryBlock * kKeyBlock},
                            {&logsumexp, query_rows},
                            {&delta, query_rows}};
    int64_t bytes = Arena::bytes<int64_t>(query_rows);
    for (const Piece& piece : pieces) bytes += Arena::bytes<T>(piece.size);
    memory.reserve(bytes);
    for (const Piece& piece : pieces) *piece.where = memory.take<T>(piece.size);
    visible = memory.take<int64_t>(query_rows);
  }
};

template <typename S>
void zero_rows(const Heads<S>& heads, int64_t head, int64_t begin, int64_t end, int64_t width) {
  for (int64_t r = begin; r < end; ++r) std::fill_n(heads.head(head) + r * heads.row, width, S(0));
}

template <typename T, typename S>
void store_rows(const T* from, int64_t pitch, int64_t rows, int64_t width, T factor, S* to,
                int64_t stride) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < width; ++c) {
      to[r * stride + c] = static_cast<S>(from[r * pitch + c] * factor);
    }
  }
}

// Copies and packs one head; returns how many keys any of its `rows` real queries sees.
template <typename T, typename S>
int64_t load_head(const Backward<S>& p, BackwardScratch<T>& s, int64_t head, int64_t rows) {
  const int64_t pitch = padded<T>(p.width), value_pitch = padded<T>(p.value_width);
  int64_t limit = 0;
  for (int64_t i = 0; i < rows; ++i) {
    s.visible[i] = p.visible_keys(head / p.heads, i);
    limit = std::max(limit, s.visible[i]);
  }
  if (limit == 0) return 0;
  copy_rows<T>(p.query.head(head), p.query.row, rows, p.width, static_cast<T>(p.scale * kLog2E),
               s.queries, pitch);
  copy_rows<T>(p.grad.head(head), p.grad.row, rows, p.value_width, T(1), s.grads, value_pitch);
  copy_rows<T>(p.key.head(head), p.key.row, limit, p.width, T(1), s.keys, pitch);
  pack_panels<T>(p.key.head(head), p.key.row, limit, p.width, s.key_panels);
  pack_panels<T>(p.value.head(head), p.value.row, limit, p.value_width, s.value_panels);
  std::fill_n(s.query_grad, rows * pitch, T(0));
  for (int64_t i = 0; i < rows; ++i) {
    const S* output = p.output.head(head) + i * p.output.row;
    T sum = 0;
    for (int64_t c = 0; c < p.value_width; ++c) {
      sum += s.grads[i * value_pitch + c] * static_cast<T>(output[c]);
    }
    s.delta[i] = sum;
    s.logsumexp[i] = static_cast<T>(p.logsumexp[head * p.query_count + i]) * T(kLog2E);
  }
  return limit;
}

// One row of both tiles: scores become weights (dropout applied), dP becomes dS.
template <typename T>
STK_INLINE void differentiate_row(T* weights, T* slopes, int64_t count, int64_t width, T logsumexp,
                                  T delta, const T* keep) {
  using V = typename Simd<T>::V;
  constexpr int64_t L = kLanes<T>;
  for (int64_t c = 0; c < count; c += L) {
    const V p = exp2_v(at_v<T>(weights + c) - logsumexp);
    const V kept = keep ? at_v<T>(keep + c) : V{} + T(1);
    at_v<T>(weights + c) = p * kept;
    at_v<T>(slopes + c) = p * (at_v<T>(slopes + c) * kept - delta);
  }
  for (int64_t c = count; c < width; ++c) weights[c] = slopes[c] = 0;
}

// c (columns x pitch) += tile^T rows; group i of the columns starts at the first row that sees it.
template <typename T>
STK_INLINE void add_transposed(const T* tile, const int64_t* counts, int64_t rows, int64_t most,
                               const T* b, int64_t pitch, T* c) {
  for (int64_t i = 0; i < most; i += kRows) {
    int64_t start = 0;
    while (start < rows && counts[start] <= i) ++start;
    for (int64_t x = 0; x < pitch; x += kPanel<T>) {
      multiply_rows<T, true>(std::min(kRows, most - i), rows - start, tile + start * kKeyBlock + i,
                             kKeyBlock, b + start * pitch + x, pitch, c + i * pitch + x, pitch, true);
    }
  }
}

template <typename T>
void backward_tile(const Shape& p, BackwardScratch<T>& s, int64_t head, int64_t start, int64_t rows,
                   int64_t first, int64_t limit) {
  const int64_t pitch = padded<T>(p.width), value_pitch = padded<T>(p.value_width);
  const int64_t most = tile_counts(s.visible + start, rows, first, std::min(kKeyBlock, limit - first),
                                   s.counts, s.group_counts);
  if (most == 0) return;
  const T *queries = s.queries + start * pitch, *grads = s.grads + start * value_pitch;
  score_tile<T>(queries, pitch, rows, p.width, s.key_panels + first * p.width, most, s.group_counts,
                s.weights, kKeyBlock);
  score_tile<T>(grads, value_pitch, rows, p.value_width, s.value_panels + first * p.value_width, most,
                s.group_counts, s.slopes, kKeyBlock);
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t i = start + r;
    if (p.dropout.on()) {
      const uint64_t row = static_cast<uint64_t>(head * p.query_count + i);
      keep_row<T>(s.counts[r], row * p.row_groups() + first / 4, p.dropout, s.keep);
    }
    differentiate_row<T>(s.weights + r * kKeyBlock, s.slopes + r * kKeyBlock, s.counts[r], most,
                         s.logsumexp[i], s.delta[i], p.dropout.on() ? s.keep : nullptr);
  }
  add_transposed<T>(s.weights, s.counts, rows, most, grads, value_pitch, s.value_grad);
  add_transposed<T>(s.slopes, s.counts, rows, most, queries, pitch, s.key_grad);
  for (int64_t r = 0, g = 0; r < rows; r += kRows, ++g) {
    for (int64_t c = 0; c < pitch && s.group_counts[g] > 0; c += kPanel<T>) {
      multiply_rows<T, false>(std::min(kRows, rows - r), s.group_counts[g], s.slopes + r * kKeyBlock,
                              kKeyBlock, s.keys + first * pitch + c, pitch,
                              s.query_grad + (start + r) * pitch + c, pitch, true);
    }
  }
}

template <typename T, typename S>
void backward_head(const Backward<S>& p, BackwardScratch<T>& s, int64_t head) {
  const int64_t pitch = padded<T>(p.width), value_pitch = padded<T>(p.value_width);
  const int64_t rows = p.real_queries(head / p.heads);
  const int64_t limit = load_head<T, S>(p, s, head, rows);
  for (int64_t first = 0; first < limit; first += kKeyBlock) {
    const int64_t keys = std::min(kKeyBlock, limit - first);
    std::fill_n(s.key_grad, keys * pitch, T(0));
    std::fill_n(s.value_grad, keys * value_pitch, T(0));
    for (int64_t start = 0; start < rows; start += kQueryBlock) {
      backward_tile<T>(p, s, head, start, std::min(kQueryBlock, rows - start), first, limit);
    }
    store_rows<T, S>(s.key_grad, pitch, keys, p.width, static_cast<T>(1 / kLog2E),
                     p.key_grad.head(head) + first * p.key_grad.row, p.key_grad.row);
    store_rows<T, S>(s.value_grad, value_pitch, keys, p.value_width, T(1),
                     p.value_grad.head(head) + first * p.value_grad.row, p.value_grad.row);
  }
  const int64_t done = limit > 0 ? rows : 0;
  store_rows<T, S>(s.query_grad, pitch, done, p.width, static_cast<T>(p.scale),
                   p.query_grad.head(head), p.query_grad.row);
  zero_rows(p.query_grad, head, done, p.query_count, p.width);
  zero_rows(p.key_grad, head, limit, p.key_count, p.width);
  zero_rows(p.value_grad, head, limit, p.key_count, p.value_width);
}

template <typename S>
void backward_heads(const Backward<S>& p, int64_t begin, int64_t end) {
  BackwardScratch<float_of<S>> scratch(p, arena());
  for (int64_t head = begin; head < end; ++head) backward_head<float_of<S>, S>(p, scratch, head);
}
