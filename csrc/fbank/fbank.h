// Log-mel filterbank features: what the CPU and the CUDA kernel share. No torch headers here.
#pragma once

#include <cstdint>

#include "common/random.h"

#ifdef STK_WITH_CUDA
#include <cuda_runtime_api.h>
#endif

namespace stk {

constexpr float kFbankLogFloor = 1.1920928955078125e-07f;  // fp32 epsilon, as in Kaldi
constexpr double kFbankCmvnEpsilon = 1e-5;                 // added to the variance
constexpr int kFbankMaxFft = 8192;

// Sizes and switches of one call. One frame: `window` samples every `shift`, zero-padded to `fft`
// samples, which are transformed as fft / 2 complex numbers.
struct FbankShape {
  int64_t batch, samples, frames;  // frames: rows of the output, the number in `samples` samples
  int32_t window, shift, fft, bins;
  bool remove_dc, use_power, snip_edges, normalise;  // normalise: per clip, over its real frames
  double preemphasis, scale, dither;                 // scale: of a raw sample
};

// Frames in a clip of `samples` samples.
STK_HD int64_t fbank_frames(int64_t samples, int64_t window, int64_t shift, bool snip_edges) {
  if (!snip_edges) return (samples + shift / 2) / shift;
  return samples < window ? 0 : 1 + (samples - window) / shift;
}

// First sample of frame `frame`; may lie before the clip without snip_edges.
STK_HD int64_t fbank_start(int64_t frame, int64_t window, int64_t shift, bool snip_edges) {
  return frame * shift + (snip_edges ? 0 : shift / 2 - window / 2);
}

// Sample index mirrored about the ends of a clip of `length` > 0 samples.
STK_HD int64_t fbank_mirror(int64_t index, int64_t length) {
  index %= 2 * length;
  if (index < 0) index += 2 * length;
  return index < length ? index : 2 * length - 1 - index;
}

#ifdef STK_WITH_CUDA
// Constant tables on the device.
template <typename Real>
struct FbankDeviceTables {
  const double* window;
  const double* turns;        // exp(-2 pi i k / fft) for k = 0 to fft / 4, (re, im) pairs
  const int32_t* position;    // see FbankTables
  const int32_t* mel_start;
  const int32_t* mel_first;
  const Real* mel_weights;
};

// features (B, frames, bins) and counts (B,) are written whole. mean and istd may be null. Lengths
// outside [0, samples] are clamped.
template <typename Sample, typename Real>
cudaError_t launch_fbank(const FbankShape& shape, const FbankDeviceTables<Real>& tables,
                         const Sample* waveforms, const int64_t* lengths, const Real* mean,
                         const Real* istd, Seed seed, Real* features, int64_t* counts,
                         cudaStream_t stream);
#endif

}  // namespace stk
