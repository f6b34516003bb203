// Constants of ctc_shrink that host and device code share.
#pragma once

#include <cstdint>

namespace stk {

enum class Reduce : int { first, mean, weighted };

struct Options {
  Reduce reduce;
  bool drop;  // blank runs disappear; otherwise each stays as a segment
  int64_t blank;
};

}  // namespace stk
