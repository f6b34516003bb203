// Raw-pointer interface between attention_cuda.cpp and the CUDA kernels of prefix attention.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "common/random.h"

namespace stk::prefix_attention {

enum class Element { kFloat, kHalf, kBFloat16 };

// A (B, H, T, width) tensor: rows of dense elements, 16-byte aligned; strides in elements.
struct Rows {
  void* data;
  int64_t batch, head, row;
};

struct CudaShape {
  int batch, heads, query_count, key_count;
  int width, value_width;  // multiples of 8, at most 128
  float scale;             // positive
  const int64_t* visible;  // null: every key
  int64_t visible_batch, visible_query;
  const int64_t* query_lengths;  // null: every query
  uint32_t threshold;            // dropout: a weight is kept where its word is at least this; 0: off
  float factor;                  // what a kept weight is multiplied by
  Seed seed;
};

struct CudaForward {
  CudaShape shape;
  Rows query, key, value, output;
  float* logsumexp;  // (B, H, Tq), natural logarithm; +inf where nothing is seen
};

struct CudaBackward {
  CudaShape shape;
  Rows query, key, value, output, grad;
  const float* logsumexp;
  float* delta;     // (B, H, Tq): scratch
  int* most_seen;   // (B, ceil(Tq / kSeenBlock)): scratch
  Rows query_grad, key_grad, value_grad;
};

// Queries that share one entry of `most_seen`.
constexpr int kSeenBlock = 32;

cudaError_t launch_forward(const CudaForward& problem, Element element, cudaStream_t stream);
cudaError_t launch_backward(const CudaBackward& problem, Element element, cudaStream_t stream);

}  // namespace stk::prefix_attention
