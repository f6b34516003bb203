// Dtypes that a launcher with raw pointers is told by number; no torch headers.
#pragma once

namespace stk {

enum class Dtype : int { fp32, fp16, bf16 };

}  // namespace stk
