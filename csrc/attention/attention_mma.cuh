// Fragments of the tensor-core instructions, and products of warp tiles held in shared memory.
//
// fp16 and bf16 use mma.m16n8k16. fp32 uses mma.m16n8k8 on tf32 three times per product, each operand
// split into a high and a low part, and sums up outside of the tensor cores, which truncate every sum
// where fp32 arithmetic rounds (both after Ootomo and Yokota, 2022): as accurate as fp32 arithmetic.
// In accumulators of both, thread (g, t) = (lane / 4, lane % 4) holds of each 16 x 8 tile
//   c[0], c[1]: row g, columns 2t and 2t + 1;   c[2], c[3]: row g + 8, the same columns.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

namespace stk::prefix_attention {

struct FragmentA {
  uint32_t x[4];
};

struct FragmentB {
  uint32_t x[2];
};

__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// Elements that one instruction sums over.
template <typename T>
constexpr int kDepth = sizeof(T) == 2 ? 16 : 8;

// Row pitch of a tile D elements wide: 16 bytes more than the row, so that the eight rows an access
// touches lie in different banks.
template <typename T, int D>
constexpr int kPitch = D + 16 / static_cast<int>(sizeof(T));

// A: rows row0 to row0 + 15, columns k0 to k0 + kDepth - 1 of a row-major tile.
template <typename T>
__device__ __forceinline__ FragmentA load_a(const T* tile, int pitch, int row0, int k0, int lane) {
  FragmentA a;
  if constexpr (sizeof(T) == 2) {
    const T* from = tile + (row0 + (lane & 15)) * pitch + k0 + (lane >> 4) * 8;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(a.x[0]), "=r"(a.x[1]), "=r"(a.x[2]), "=r"(a.x[3])
                 : "r"(shared_address(from)));
  } else {
    const T* from = tile + (row0 + (lane >> 2)) * pitch + k0 + (lane & 3);
    a.x[0] = __float_as_uint(from[0]);
    a.x[1] = __float_as_uint(from[8 * pitch]);
    a.x[2] = __float_as_uint(from[4]);
    a.x[3] = __float_as_uint(from[8 * pitch + 4]);
  }
  return a;
}

// B(k, n) = tile[n0 + n][k0 + k] for n in 0..7 (first) and 8..15 (second).
template <typename T>
__device__ __forceinline__ void load_b(const T* tile, int pitch, int n0, int k0, int lane,
                                       FragmentB& first, FragmentB& second) {
  if constexpr (sizeof(T) == 2) {
    const T* from =
        tile + (n0 + (lane & 7) + ((lane >> 4) << 3)) * pitch + k0 + ((lane >> 3) & 1) * 8;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(first.x[0]), "=r"(first.x[1]), "=r"(second.x[0]), "=r"(second.x[1])
                 : "r"(shared_address(from)));
  } else {
    const T* from = tile + (n0 + (lane >> 2)) * pitch + k0 + (lane & 3);
    first.x[0] = __float_as_uint(from[0]);
    first.x[1] = __float_as_uint(from[4]);
    second.x[0] = __float_as_uint(from[8 * pitch]);
    second.x[1] = __float_as_uint(from[8 * pitch + 4]);
  }
}

// B(k, n) = tile[k0 + k'][n0 + n], n as above, to meet an A made by a_of(): there, in fp32, the k of
// the instruction run over the columns 0, 2, 4, 6, 1, 3, 5, 7 of the accumulator tile.
template <typename T>
__device__ __forceinline__ void load_b_rows(const T* tile, int pitch, int k0, int n0, int lane,
                                            FragmentB& first, FragmentB& second) {
  if constexpr (sizeof(T) == 2) {
    const T* from =
        tile + (k0 + (lane & 7) + ((lane >> 3) & 1) * 8) * pitch + n0 + (lane >> 4) * 8;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(first.x[0]), "=r"(first.x[1]), "=r"(second.x[0]), "=r"(second.x[1])
                 : "r"(shared_address(from)));
  } else {
    const T* from = tile + (k0 + 2 * (lane & 3)) * pitch + n0 + (lane >> 2);
    first.x[0] = __float_as_uint(from[0]);
    first.x[1] = __float_as_uint(from[pitch]);
    second.x[0] = __float_as_uint(from[8]);
    second.x[1] = __float_as_uint(from[pitch + 8]);
  }
}

template <typename T>
__device__ __forceinline__ uint32_t pack(float low, float high) {
  if constexpr (sizeof(T) == 4) {
    return 0;  // never called
  } else if constexpr (std::is_same_v<T, __half>) {
    const __half2 both = __floats2half2_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&both);
  } else {
    const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&both);
  }
}

// A from accumulators: columns step * kDepth and on.
template <typename T>
__device__ __forceinline__ FragmentA a_of(const float (*tiles)[4], int step) {
  if constexpr (sizeof(T) == 2) {
    const float* left = tiles[2 * step];
    const float* right = tiles[2 * step + 1];
    return {{pack<T>(left[0], left[1]), pack<T>(left[2], left[3]), pack<T>(right[0], right[1]),
             pack<T>(right[2], right[3])}};
  } else {
    const float* tile = tiles[step];
    return {{__float_as_uint(tile[0]), __float_as_uint(tile[2]), __float_as_uint(tile[1]),
             __float_as_uint(tile[3])}};
  }
}

__device__ __forceinline__ uint32_t to_tf32(float x) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
}

// x = high + low, both tf32.
__device__ __forceinline__ void split(uint32_t x, uint32_t& high, uint32_t& low) {
  high = to_tf32(__uint_as_float(x));
  low = to_tf32(__uint_as_float(x) - __uint_as_float(high));
}

__device__ __forceinline__ void mma_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// c += a b. fp32: outside of the tensor cores, or where registers are short (`kInside`) within.
template <typename T, bool kInside = false>
__device__ __forceinline__ void mma(float (&c)[4], const FragmentA& a, const FragmentB& b) {
  if constexpr (std::is_same_v<T, __half>) {
    asm(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a.x[0]), "r"(a.x[1]), "r"(a.x[2]), "r"(a.x[3]), "r"(b.x[0]), "r"(b.x[1]));
  } else if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    asm(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a.x[0]), "r"(a.x[1]), "r"(a.x[2]), "r"(a.x[3]), "r"(b.x[0]), "r"(b.x[1]));
  } else {
    uint32_t a_high[4], a_low[4], b_high[2], b_low[2];
#pragma unroll
    for (int i = 0; i < 4; ++i) split(a.x[i], a_high[i], a_low[i]);
#pragma unroll
    for (int i = 0; i < 2; ++i) split(b.x[i], b_high[i], b_low[i]);
    float apart[4] = {};
    float(&sum)[4] = kInside ? c : apart;
    // The small terms first, so that they are not lost beside the large one.
    mma_tf32(sum, a_low, b_high);
    mma_tf32(sum, a_high, b_low);
    mma_tf32(sum, a_high, b_high);
    if constexpr (!kInside) {
#pragma unroll
      for (int i = 0; i < 4; ++i) c[i] += sum[i];
    }
  }
}

// acc (MT * 16 rows x NT * 8 columns) += A[row0 + ..][0..D) B[n0 + ..][0..D)^T, both tiles row-major.
template <typename T, int D, int MT, int NT>
__device__ __forceinline__ void multiply_abt(float (&acc)[MT][NT][4], const T* a_tile, int row0,
                                             const T* b_tile, int n0, int lane) {
  constexpr int P = kPitch<T, D>;
  // fp32 splits its operands: a loop unrolled whole would hold too many of them at once.
#pragma unroll(sizeof(T) == 4 ? 2 : D / kDepth<T>)
  for (int k = 0; k < D; k += kDepth<T>) {
    FragmentA a[MT];
#pragma unroll
    for (int m = 0; m < MT; ++m) a[m] = load_a(a_tile, P, row0 + 16 * m, k, lane);
#pragma unroll
    for (int n = 0; n < NT; n += 2) {
      FragmentB first, second;
      load_b(b_tile, P, n0 + 8 * n, k, lane, first, second);
#pragma unroll
      for (int m = 0; m < MT; ++m) {
        mma<T>(acc[m][n], a[m], first);
        mma<T>(acc[m][n + 1], a[m], second);
      }
    }
  }
}

// The same with the whole of A in registers: a[m][k / kDepth].
template <typename T, int D, int MT, int NT>
__device__ __forceinline__ void multiply_abt(float (&acc)[MT][NT][4],
                                             const FragmentA (&a)[MT][D / kDepth<T>],
                                             const T* b_tile, int n0, int lane) {
#pragma unroll
  for (int k = 0; k < D; k += kDepth<T>) {
#pragma unroll
    for (int n = 0; n < NT; n += 2) {
      FragmentB first, second;
      load_b(b_tile, kPitch<T, D>, n0 + 8 * n, k, lane, first, second);
#pragma unroll
      for (int m = 0; m < MT; ++m) {
        mma<T>(acc[m][n], a[m][k / kDepth<T>], first);
        mma<T>(acc[m][n + 1], a[m][k / kDepth<T>], second);
      }
    }
  }
}

// acc (MT * 16 rows x D columns) += weights (MT * 16 x NT * 8, accumulators) tile[k0 + ..][0..D).
template <typename T, int D, bool kInside = false, int MT, int NT>
__device__ __forceinline__ void multiply_weights(float (&acc)[MT][D / 8][4],
                                                 const float (&weights)[MT][NT][4], const T* tile,
                                                 int k0, int lane) {
#pragma unroll
  for (int step = 0; step < NT * 8 / kDepth<T>; ++step) {
    FragmentA a[MT];
#pragma unroll
    for (int m = 0; m < MT; ++m) a[m] = a_of<T>(weights[m], step);
#pragma unroll
    for (int n = 0; n < D / 8; n += 2) {
      FragmentB first, second;
      load_b_rows(tile, kPitch<T, D>, k0 + step * kDepth<T>, 8 * n, lane, first, second);
#pragma unroll
      for (int m = 0; m < MT; ++m) {
        mma<T, kInside>(acc[m][n], a[m], first);
        mma<T, kInside>(acc[m][n + 1], a[m], second);
      }
    }
  }
}

}  // namespace stk::prefix_attention
