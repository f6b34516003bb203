// CUDA kernels of stk::fbank. A group of threads (a warp, or a block where the transform is long) takes one
// frame from samples to log-mel energies; frame and spectrum live in shared memory. As on the CPU, all
// that precedes the power spectrum is fp64.
#include "common/cuda_reduce.cuh"
#include "fbank/fbank.h"

namespace stk {
namespace {

constexpr int kWarp = 32;
constexpr int kWarpFrames = 4;       // frames (warps) of a block where a warp takes a frame
constexpr int kWarpFft = 1024;       // longest transform that one warp takes
constexpr int kBlock = 256;          // threads of a block where the whole block takes a frame
constexpr int kClipThreads = 256;

// Shared-memory place of complex point k: one place in five is left free, so that the radix-4 passes with
// short strides do not meet in the same banks.
__host__ __device__ __forceinline__ int padded(int k) { return k + (k >> 2); }

template <int Group>
__device__ __forceinline__ void sync_group() {
  if constexpr (Group == kWarp) {
    __syncwarp();
  } else {
    __syncthreads();
  }
}

// Sum over the group's threads; `scratch` holds a value per warp. Every thread gets the sum.
template <int Group>
__device__ __forceinline__ double group_sum(double value, int lane, double* scratch) {
  value = warp_sum(value);
  if constexpr (Group > kWarp) {
    if (lane % kWarp == 0) scratch[lane / kWarp] = value;
    __syncthreads();
    value = 0.0;
#pragma unroll
    for (int warp = 0; warp < Group / kWarp; ++warp) value += scratch[warp];
  }
  return value;
}

// Two arrays of doubles: real and imaginary parts, or even and odd samples of a frame.
struct Points {
  double* re;
  double* im;

  __device__ double2 get(int k) const { return {re[padded(k)], im[padded(k)]}; }
  __device__ void put(int k, double2 value) const {
    re[padded(k)] = value.x;
    im[padded(k)] = value.y;
  }
  __device__ double& sample(int n) const { return (n & 1 ? im : re)[padded(n >> 1)]; }
};

__device__ __forceinline__ double2 add(double2 a, double2 b) { return {a.x + b.x, a.y + b.y}; }
__device__ __forceinline__ double2 sub(double2 a, double2 b) { return {a.x - b.x, a.y - b.y}; }
__device__ __forceinline__ double2 times(double2 a, double2 b) {
  return {a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x};
}

// Standard normal value of one element, by Box and Muller.
__device__ float normal(uint64_t seed, uint64_t offset, uint64_t index) {
  const Philox4 words = philox(seed, offset, index / 4);
  const bool second = index & 2;
  const float radius = sqrtf(-2.0f * logf(uniform_open(second ? words.x[2] : words.x[0])));
  const float half_turns = 2.0f * uniform(second ? words.x[3] : words.x[1]);
  return radius * (index & 1 ? sinpif(half_turns) : cospif(half_turns));
}

// Samples of the frame into `points`, scaled and dithered; returns the mean to remove.
template <int Group, typename Sample>
__device__ double gather(const FbankShape& s, const Sample* clip, int64_t length, int64_t row,
                         int64_t frame, const Seed& seed, int lane, Points points, double* scratch) {
  const int64_t begin = fbank_start(frame, s.window, s.shift, s.snip_edges);
  double sum = 0.0;
  for (int n = lane; n < s.window; n += Group) {
    const int64_t at = s.snip_edges ? begin + n : fbank_mirror(begin + n, length);
    double value = s.scale * static_cast<double>(clip[at]);
    if (s.dither > 0.0) {
      value += s.dither * normal(seed.key(), seed.stream(), static_cast<uint64_t>(row) * s.window + n);
    }
    points.sample(n) = value;
    sum += value;
  }
  for (int n = s.window + lane; n < s.fft; n += Group) points.sample(n) = 0.0;
  sum = group_sum<Group>(sum, lane, scratch);
  sync_group<Group>();
  return s.remove_dc ? sum / s.window : 0.0;
}

// Mean, pre-emphasis and window in place, from the end to the beginning: the sample before is read
// before it is overwritten.
template <int Group>
__device__ void shape_frame(const FbankShape& s, const double* window, double mean, int lane,
                            Points points) {
  for (int first = (s.window - 1) / Group * Group; first >= 0; first -= Group) {
    const int n = first + lane;
    double value = 0.0;
    if (n < s.window) {
      const double before = points.sample(n > 0 ? n - 1 : 0) - mean;
      value = (points.sample(n) - mean - s.preemphasis * before) * window[n];
    }
    sync_group<Group>();
    if (n < s.window) points.sample(n) = value;
    sync_group<Group>();
  }
}

// Decimation-in-frequency transform in place, radix 4 with a last pass of radix 2 where needed.
template <int Group>
__device__ void transform(int count, const double2* turns, int lane, Points points) {
  int size = count;
  for (; size >= 4; size /= 4) {
    const int quarter = size / 4;
    for (int i = lane; i < count / 4; i += Group) {
      const int j = i % quarter, k = (i - j) * 4 + j;
      const double2 a = points.get(k), b = points.get(k + quarter);
      const double2 c = points.get(k + 2 * quarter), d = points.get(k + 3 * quarter);
      const double2 even = add(a, c), odd = sub(a, c), sum = add(b, d), gap = sub(b, d);
      const double2 turned = {gap.y, -gap.x};  // -i (b - d)
      const double2 w1 = turns[2 * j * (count / size)], w2 = times(w1, w1), w3 = times(w1, w2);
      points.put(k, add(even, sum));
      points.put(k + quarter, times(add(odd, turned), w1));
      points.put(k + 2 * quarter, times(sub(even, sum), w2));
      points.put(k + 3 * quarter, times(sub(odd, turned), w3));
    }
    sync_group<Group>();
  }
  if (size == 2) {
    for (int k = 2 * lane; k < count; k += 2 * Group) {
      const double2 a = points.get(k), b = points.get(k + 1);
      points.put(k, add(a, b));
      points.put(k + 1, sub(a, b));
    }
    sync_group<Group>();
  }
}

template <typename Real>
__device__ __forceinline__ Real magnitude(double2 value, double scale, bool use_power) {
  const double power = (value.x * value.x + value.y * value.y) * (scale * scale);
  return static_cast<Real>(use_power ? power : sqrt(power));
}

// Squared magnitudes (or magnitudes) of the real transform's frequencies 0 to count - 1.
template <int Group, typename Real>
__device__ void powers(const FbankShape& s, const int32_t* position, const double2* turns, int lane,
                       Points points, Real* power) {
  const int count = s.fft / 2;
  if (lane == 0) {
    const double2 zero = points.get(0);
    power[0] = magnitude<Real>({zero.x + zero.y, 0.0}, 1.0, s.use_power);
  }
  for (int k = 1 + lane; 2 * k <= count; k += Group) {
    const double2 p = points.get(position[k]), other = points.get(position[count - k]);
    const double2 q = {other.x, -other.y};
    const double2 even = add(p, q), gap = sub(p, q);
    const double2 odd = times({gap.y, -gap.x}, turns[k]);
    power[count - k] = magnitude<Real>(sub(even, odd), 0.5, s.use_power);
    // At k = count / 2 both are the same value; the two writes are this thread's own.
    power[k] = magnitude<Real>(add(even, odd), 0.5, s.use_power);
  }
  sync_group<Group>();
}

__device__ __forceinline__ float log_of(float value) { return logf(value); }
__device__ __forceinline__ double log_of(double value) { return log(value); }

template <int Group, typename Real>
__device__ void mel(const FbankShape& s, const FbankDeviceTables<Real>& tables, const Real* power,
                    const Real* mean, const Real* istd, int lane, Real* row) {
  for (int bin = lane; bin < s.bins; bin += Group) {
    const int end = tables.mel_start[bin + 1];
    const Real* from = power + tables.mel_first[bin];
    Real sum = 0;
    for (int i = tables.mel_start[bin]; i < end; ++i) sum += tables.mel_weights[i] * *from++;
    const Real floor = kFbankLogFloor;
    Real value = log_of(sum < floor ? floor : sum);  // a NaN stays one
    if (mean) value = (value - mean[bin]) * istd[bin];
    row[bin] = value;
  }
}

__host__ __device__ __forceinline__ int64_t clamp_length(int64_t length, int64_t samples) {
  return length < 0 ? 0 : (length > samples ? samples : length);
}

// threadIdx.x: within the group; threadIdx.y: frame of the block.
template <int Group, typename Sample, typename Real>
__global__ void __launch_bounds__(Group == kWarp ? kWarp* kWarpFrames : kBlock)
    fbank_kernel(FbankShape s, FbankDeviceTables<Real> tables, const Sample* waveforms,
                 const int64_t* lengths, const Real* mean, const Real* istd, Seed seed,
                 Real* features) {
  extern __shared__ double shared[];
  __shared__ double scratch[Group / kWarp];
  const int lane = threadIdx.x;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (row >= s.batch * s.frames) return;  // whole groups leave: nobody waits for them
  const int64_t clip = row / s.frames, frame = row % s.frames;
  const int64_t length = clamp_length(lengths[clip], s.samples);
  Real* out = features + row * s.bins;
  if (frame >= fbank_frames(length, s.window, s.shift, s.snip_edges)) {
    for (int bin = lane; bin < s.bins; bin += Group) out[bin] = 0;
    return;
  }
  const int count = s.fft / 2, room = padded(count);
  double* base = shared + threadIdx.y * (2 * room + count);
  const Points points{base, base + room};
  Real* power = reinterpret_cast<Real*>(base + 2 * room);
  const double2* turns = reinterpret_cast<const double2*>(tables.turns);
  const double dc = gather<Group>(s, waveforms + clip * s.samples, length, row, frame, seed, lane,
                                  points, scratch);
  shape_frame<Group>(s, tables.window, dc, lane, points);
  transform<Group>(count, turns, lane, points);
  powers<Group>(s, tables.position, turns, lane, points, power);
  mel<Group>(s, tables, power, mean, istd, lane, out);
}

__global__ void counts_kernel(FbankShape s, const int64_t* lengths, int64_t* counts) {
  const int64_t clip = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (clip >= s.batch) return;
  const int64_t length = clamp_length(lengths[clip], s.samples);
  counts[clip] = fbank_frames(length, s.window, s.shift, s.snip_edges);
}

// Sum over threadIdx.y, for each threadIdx.x.
__device__ double column_sum(double value, double (*table)[kWarp]) {
  table[threadIdx.y][threadIdx.x] = value;
  __syncthreads();
  double sum = 0.0;
#pragma unroll
  for (int y = 0; y < kClipThreads / kWarp; ++y) sum += table[y][threadIdx.x];
  __syncthreads();
  return sum;
}

// Zero mean and unit population variance of 32 bins (blockIdx.x) of one clip (blockIdx.y), in place.
template <typename Real>
__global__ void __launch_bounds__(kClipThreads)
    normalise_kernel(FbankShape s, int64_t clip_offset, const int64_t* counts, Real* features) {
  __shared__ double table[kClipThreads / kWarp][kWarp];
  const int64_t clip = clip_offset + blockIdx.y, count = counts[clip];
  const int bin = blockIdx.x * kWarp + threadIdx.x;
  const bool real = bin < s.bins;
  Real* rows = features + clip * s.frames * s.bins + bin;
  double sum = 0.0;
  for (int64_t t = threadIdx.y; real && t < count; t += blockDim.y) sum += rows[t * s.bins];
  const double frames = count > 0 ? static_cast<double>(count) : 1.0;
  const double mean = column_sum(sum, table) / frames;
  double square = 0.0;
  for (int64_t t = threadIdx.y; real && t < count; t += blockDim.y) {
    const double gap = rows[t * s.bins] - mean;
    square += gap * gap;
  }
  const double istd = rsqrt(column_sum(square, table) / frames + kFbankCmvnEpsilon);
  for (int64_t t = threadIdx.y; real && t < count; t += blockDim.y) {
    rows[t * s.bins] = static_cast<Real>((rows[t * s.bins] - mean) * istd);
  }
}

template <int Group, typename Sample, typename Real>
cudaError_t launch_frames(const FbankShape& s, const FbankDeviceTables<Real>& tables,
                          const Sample* waveforms, const int64_t* lengths, const Real* mean,
                          const Real* istd, Seed seed, Real* features, cudaStream_t stream) {
  const int per_block = Group == kWarp ? kWarpFrames : 1;
  const int count = s.fft / 2;
  const int bytes = per_block * (2 * padded(count) + count) * static_cast<int>(sizeof(double));
  const auto kernel = fbank_kernel<Group, Sample, Real>;
  const cudaError_t raised =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (raised != cudaSuccess) return raised;
  const int64_t blocks = (s.batch * s.frames + per_block - 1) / per_block;
  kernel<<<static_cast<unsigned>(blocks), dim3(Group, per_block), bytes, stream>>>(
      s, tables, waveforms, lengths, mean, istd, seed, features);
  return cudaGetLastError();
}

template <typename Real>
cudaError_t launch_normalise(const FbankShape& s, const int64_t* counts, Real* features,
                             cudaStream_t stream) {
  constexpr int64_t kMostClips = 65535;  // of a grid's second dimension
  for (int64_t first = 0; first < s.batch; first += kMostClips) {
    const int64_t clips = s.batch - first < kMostClips ? s.batch - first : kMostClips;
    const dim3 grid((s.bins + kWarp - 1) / kWarp, static_cast<unsigned>(clips));
    normalise_kernel<Real><<<grid, dim3(kWarp, kClipThreads / kWarp), 0, stream>>>(s, first, counts,
                                                                                  features);
    const cudaError_t launched = cudaGetLastError();
    if (launched != cudaSuccess) return launched;
  }
  return cudaSuccess;
}

}  // namespace

template <typename Sample, typename Real>
cudaError_t launch_fbank(const FbankShape& s, const FbankDeviceTables<Real>& tables,
                         const Sample* waveforms, const int64_t* lengths, const Real* mean,
                         const Real* istd, Seed seed, Real* features, int64_t* counts,
                         cudaStream_t stream) {
  if (s.batch == 0) return cudaSuccess;
  counts_kernel<<<static_cast<unsigned>((s.batch + 255) / 256), 256, 0, stream>>>(s, lengths, counts);
  cudaError_t launched = cudaGetLastError();
  if (launched != cudaSuccess || s.frames == 0) return launched;
  const auto frames = s.fft <= kWarpFft ? launch_frames<kWarp, Sample, Real>
                                        : launch_frames<kBlock, Sample, Real>;
  launched = frames(s, tables, waveforms, lengths, mean, istd, seed, features, stream);
  if (launched != cudaSuccess || !s.normalise) return launched;
  return launch_normalise(s, counts, features, stream);
}

#define STK_INSTANTIATE(Sample, Real)                                                             \
  template cudaError_t launch_fbank<Sample, Real>(                                                \
      const FbankShape&, const FbankDeviceTables<Real>&, const Sample*, const int64_t*, const Real*, \
      const Real*, Seed, Real*, int64_t*, cudaStream_t);

STK_INSTANTIATE(int16_t, float)
STK_INSTANTIATE(float, float)
STK_INSTANTIATE(double, double)

}  // namespace stk
