// Backward of prefix attention on CUDA: what is prepared per query, and the launches.
#include <algorithm>

#include "attention/attention_backward.cuh"
#include "common/cuda_reduce.cuh"
#include "common/cuda_vec.cuh"

namespace stk::prefix_attention {
namespace {

constexpr int kPrepareThreads = 128;

// delta = sum of grad * output, one warp per query; zero for padded queries, whose rows are not read.
template <typename T>
__global__ void __launch_bounds__(kPrepareThreads) delta_kernel(const __grid_constant__ CudaBackward p) {
  const CudaShape& s = p.shape;
  const int lane = threadIdx.x % 32, h = blockIdx.y, b = blockIdx.z;
  const int i = blockIdx.x * (kPrepareThreads / 32) + threadIdx.x / 32;
  if (i >= s.query_count) return;
  float sum = 0.0f;
  if (i < real_queries(s, b)) {
    const T* grad = head_of<const T>(p.grad, b, h) + i * p.grad.row;
    const T* output = head_of<const T>(p.output, b, h) + i * p.output.row;
    for (int c = lane; c < s.value_width; c += 32) sum += to_float(grad[c]) * to_float(output[c]);
  }
  sum = warp_sum(sum);
  if (lane == 0) p.delta[(static_cast<int64_t>(b) * s.heads + h) * s.query_count + i] = sum;
}

// The most keys that any query of each kSeenBlock sees, one warp per block of queries.
__global__ void most_seen_kernel(const __grid_constant__ CudaBackward p) {
  const int block = blockIdx.x, b = blockIdx.y;
  int most = visible_keys(p.shape, b, block * kSeenBlock + threadIdx.x, real_queries(p.shape, b));
  most = __reduce_max_sync(0xffffffffu, most);
  if (threadIdx.x == 0) p.most_seen[b * gridDim.x + block] = most;
}

template <typename T, int D>
cudaError_t run(const CudaBackward& p, cudaStream_t stream) {
  using Tile = BackwardTile<T, D>;
  const CudaShape& s = p.shape;
  const auto grid = [&](int rows, int per_block) {
    return dim3((rows + per_block - 1) / per_block, s.heads, s.batch);
  };
  most_seen_kernel<<<dim3((s.query_count + kSeenBlock - 1) / kSeenBlock, s.batch), kSeenBlock, 0,
                     stream>>>(p);
  delta_kernel<T><<<grid(s.query_count, kPrepareThreads / 32), kPrepareThreads, 0, stream>>>(p);
  const cudaError_t prepared = cudaGetLastError();
  if (prepared != cudaSuccess) return prepared;
  const cudaError_t keys = launch(key_value_kernel<T, D>, grid(s.key_count, Tile::kOwned),
                                  Tile::kThreads, Tile::kBytes, stream, p);
  if (keys != cudaSuccess) return keys;
  return launch(query_kernel<T, D>, grid(s.query_count, Tile::kOwned), Tile::kThreads, Tile::kBytes,
                stream, p);
}

}  // namespace

cudaError_t launch_backward(const CudaBackward& problem, Element element, cudaStream_t stream) {
  const int width = std::max(problem.shape.width, problem.shape.value_width);
  return with_types(element, width, [&](auto type, auto size) {
    return run<decltype(type), decltype(size)::value>(problem, stream);
  });
}

}  // namespace stk::prefix_attention
