// Vectors of eight fp32 or four fp64 lanes in portable C++ (GCC and Clang vector extensions), and how to compile one body of code
// for AVX2 and for the baseline beside it, chosen when it runs:
//
//   #include "common/simd.h"                  // and every other header: before the two regions
//   STK_AVX2_BEGIN
//   namespace stk::avx2 {
//   #include "fbank/fbank_body.h"             // functions written with F8
//   }
//   STK_AVX2_END
//   namespace stk::baseline {
//   #include "fbank/fbank_body.h"
//   }
//   ... has_avx2() ? stk::avx2::run(args) : stk::baseline::run(args) ...
//
// On other processors than x86-64 the two are the same code (two NEON registers on 64-bit Arm). Nothing
// outside a region is compiled for AVX2, so the extension loads and runs on any x86-64.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__x86_64__) && defined(__clang__)
#define STK_AVX2_BEGIN \
  _Pragma("clang attribute push(__attribute__((target(\"avx2,fma\"))), apply_to = function)")
#define STK_AVX2_END _Pragma("clang attribute pop")
#elif defined(__x86_64__) && defined(__GNUC__)
#define STK_AVX2_BEGIN _Pragma("GCC push_options") _Pragma("GCC target(\"avx2,fma\")")
#define STK_AVX2_END _Pragma("GCC pop_options")
#else
#define STK_AVX2_BEGIN
#define STK_AVX2_END
#endif

// Functions on vectors must be inlined: a vector passed by value has another ABI with AVX.
#define STK_INLINE inline __attribute__((always_inline))

// Lanes of two vectors by number: those of `a`, then those of `b`.
#if defined(__clang__) || __GNUC__ >= 12
#define STK_SHUFFLE8(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#define STK_SHUFFLE4(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define STK_SHUFFLE4(a, b, ...) __builtin_shuffle(a, b, stk::L4{__VA_ARGS__})
#define STK_SHUFFLE8(a, b, ...) __builtin_shuffle(a, b, stk::I8{__VA_ARGS__})
#endif

namespace stk {

typedef float F8 __attribute__((vector_size(32)));
typedef float F4 __attribute__((vector_size(16)));
typedef double D4 __attribute__((vector_size(32)));
typedef int32_t I8 __attribute__((vector_size(32)));
typedef int64_t L4 __attribute__((vector_size(32)));

inline bool has_avx2() {
#if defined(__x86_64__)
  static const bool yes = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  return yes;
#else
  return false;
#endif
}

}  // namespace stk
