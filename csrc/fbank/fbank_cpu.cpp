// CPU kernel of stk::fbank. Threads share out blocks of eight frames; within a block each vector lane
// is one frame, so that every step, the transform included, is plain arithmetic on whole vectors and a
// block's working set stays in the first-level cache.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "common/simd.h"
#include "fbank/fbank_args.h"

STK_AVX2_BEGIN
namespace stk::fbank_avx2 {
using Real = float;
using V = F8;
using Real4 = F4;
#include "common/simd_math.h"
STK_INLINE V log_lanes(V x) { return log8(x); }
STK_INLINE void transpose_lanes(V* rows) { transpose8(rows); }
#include "fbank/fbank_body.h"
}  // namespace stk::fbank_avx2
STK_AVX2_END

namespace stk::fbank_baseline {
using Real = float;
using V = F8;
using Real4 = F4;
#include "common/simd_math.h"
STK_INLINE V log_lanes(V x) { return log8(x); }
STK_INLINE void transpose_lanes(V* rows) { transpose8(rows); }
#include "fbank/fbank_body.h"
}  // namespace stk::fbank_baseline

namespace stk::fbank_double {
using Real = double;
typedef double V __attribute__((vector_size(64)));
using Real4 = D4;
STK_INLINE V log_lanes(V x) {
  for (int l = 0; l < 8; ++l) x[l] = std::log(x[l]);
  return x;
}
STK_INLINE void transpose_lanes(V* rows) {
  for (int r = 0; r < 8; ++r) {
    for (int c = 0; c < r; ++c) {
      const double kept = rows[r][c];
      rows[r][c] = rows[c][r];
      rows[c][r] = kept;
    }
  }
}
#include "fbank/fbank_body.h"
}  // namespace stk::fbank_double

namespace stk {
namespace {

template <typename Real>
struct Job {
  FbankShape shape;
  std::shared_ptr<const FbankTables<Real>> tables;
  const int64_t* lengths;
  const Real* mean;  // null without global normalisation
  const Real* istd;
  uint64_t seed, offset;
  Real* features;
  int64_t* counts;
};

// Buffers of one thread, each aligned to cache lines.
template <typename Real>
class Workspace {
 public:
  explicit Workspace(const FbankShape& s)
      : dithered_(s.dither > 0.0),
        samples_size_(padded<Real>(7 * static_cast<int64_t>(s.shift) + s.window)),
        power_size_(padded<Real>(4 * s.fft)),
        frame_size_(padded<double>(4 * s.fft)),
        storage_(64 + samples_size_ + power_size_ + frame_size_ +
                 (dithered_ ? padded<double>(8 * s.window) : 0)) {
    void* start = storage_.data();
    size_t room = storage_.size();
    base_ = static_cast<char*>(std::align(64, 1, start, room));
  }
  Real* samples() { return reinterpret_cast<Real*>(base_); }
  Real* power() { return reinterpret_cast<Real*>(base_ + samples_size_); }
  double* frame() { return reinterpret_cast<double*>(base_ + samples_size_ + power_size_); }
  double* noise() {
    if (!dithered_) return nullptr;
    return reinterpret_cast<double*>(base_ + samples_size_ + power_size_ + frame_size_);
  }

 private:
  template <typename T>
  static int64_t padded(int64_t count) {
    return (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
  }
  bool dithered_;
  int64_t samples_size_, power_size_, frame_size_;
  std::vector<char> storage_;
  char* base_;
};

// Scaled samples under the eight frames from `first` on; mirrored or zero outside the clip.
template <typename Sample, typename Real>
void fill_samples(const FbankShape& s, const Sample* clip, int64_t length, int64_t first, Real* out) {
  const int64_t begin = fbank_start(first, s.window, s.shift, s.snip_edges);
  const int64_t size = 7 * static_cast<int64_t>(s.shift) + s.window;
  const Real scale = static_cast<Real>(s.scale);
  const int64_t inside = std::max<int64_t>(0, std::min(size, length - begin));
  const int64_t before = std::min(size, std::max<int64_t>(0, -begin));
  const auto mirrored = [&](int64_t i) -> Real {
    if (s.snip_edges) return 0;
    return scale * static_cast<Real>(clip[fbank_mirror(begin + i, length)]);
  };
  for (int64_t i = 0; i < before; ++i) out[i] = mirrored(i);
  const Sample* from = clip + begin;
  for (int64_t i = before; i < inside; ++i) out[i] = scale * static_cast<Real>(from[i]);
  for (int64_t i = std::max(before, inside); i < size; ++i) out[i] = mirrored(i);
}

// Normal noise by Box and Muller for eight rows of the dense (B * frames, window) tensor.
template <typename Real>
void fill_noise(const Job<Real>& job, int64_t row, int lanes, double* noise) {
  const int64_t size = job.shape.window;
  constexpr float kTurn = 6.283185307179586f;
  for (int l = 0; l < 8; ++l) {
    for (int64_t n = 0; n < size;) {
      const uint64_t index = static_cast<uint64_t>((row + l) * size + n);
      const Philox4 words = philox(job.seed, job.offset, index / 4);
      for (int word = index % 4; word < 4 && n < size; ++word, ++n) {
        const float radius = std::sqrt(-2.0f * std::log(uniform_open(words.x[word & 2])));
        const float angle = kTurn * uniform(words.x[word | 1]);
        const float value = radius * (word & 1 ? std::sin(angle) : std::cos(angle));
        noise[n * 8 + l] = l < lanes ? job.shape.dither * value : 0.0;
      }
    }
  }
}

void run_block(const Job<float>& job, Workspace<float>& work, int lanes, float* rows) {
  const auto run = has_avx2() ? fbank_avx2::frames_to_mel : fbank_baseline::frames_to_mel;
  run(job.shape, *job.tables, work.samples(), work.noise(), job.mean, job.istd, lanes, work.frame(),
      work.power(), rows);
}

void run_block(const Job<double>& job, Workspace<double>& work, int lanes, double* rows) {
  fbank_double::frames_to_mel(job.shape, *job.tables, work.samples(), work.noise(), job.mean,
                              job.istd, lanes, work.frame(), work.power(), rows);
}

// Zero mean and unit population variance of each bin over a clip's frames.
template <typename Real>
void normalise_clip(Real* rows, int64_t frames, int64_t bins) {
  std::vector<double> mean(bins, 0.0), square(bins, 0.0);
  for (int64_t t = 0; t < frames; ++t) {
    for (int64_t m = 0; m < bins; ++m) mean[m] += rows[t * bins + m];
  }
  for (double& value : mean) value /= static_cast<double>(frames);
  for (int64_t t = 0; t < frames; ++t) {
    for (int64_t m = 0; m < bins; ++m) {
      const double gap = rows[t * bins + m] - mean[m];
      square[m] += gap * gap;
    }
  }
  for (double& value : square) {
    value = 1.0 / std::sqrt(value / static_cast<double>(frames) + kFbankCmvnEpsilon);
  }
  for (int64_t t = 0; t < frames; ++t) {
    for (int64_t m = 0; m < bins; ++m) {
      rows[t * bins + m] = static_cast<Real>((rows[t * bins + m] - mean[m]) * square[m]);
    }
  }
}

// Block `index` of the batch: eight frames of one clip, the last ones perhaps padding.
template <typename Sample, typename Real>
void compute_block(const Job<Real>& job, const Sample* waveforms, int64_t index,
                   Workspace<Real>& work) {
  const FbankShape& s = job.shape;
  const int64_t blocks = (s.frames + 7) / 8;
  const int64_t clip = index / blocks, first = index % blocks * 8;
  Real* rows = job.features + (clip * s.frames + first) * s.bins;
  const int64_t here = std::min<int64_t>(8, s.frames - first);
  const int lanes = static_cast<int>(std::clamp<int64_t>(job.counts[clip] - first, 0, here));
  if (lanes > 0) {
    fill_samples(s, waveforms + clip * s.samples, job.lengths[clip], first, work.samples());
    if (work.noise()) fill_noise(job, clip * s.frames + first, lanes, work.noise());
    run_block(job, work, lanes, rows);
  }
  std::fill(rows + lanes * s.bins, rows + here * s.bins, Real(0));
}

template <typename Sample, typename Real>
void run(const Job<Real>& job, const Sample* waveforms) {
  const FbankShape& s = job.shape;
  for (int64_t clip = 0; clip < s.batch; ++clip) {
    job.counts[clip] = fbank_frames(job.lengths[clip], s.window, s.shift, s.snip_edges);
  }
  const int64_t blocks = s.batch * ((s.frames + 7) / 8);
  at::parallel_for(0, blocks, 4, [&](int64_t begin, int64_t end) {
    Workspace<Real> work(s);
    for (int64_t index = begin; index < end; ++index) compute_block(job, waveforms, index, work);
  });
  if (!s.normalise) return;
  at::parallel_for(0, s.batch, 1, [&](int64_t begin, int64_t end) {
    for (int64_t clip = begin; clip < end; ++clip) {
      if (job.counts[clip] == 0) continue;
      normalise_clip(job.features + clip * s.frames * s.bins, job.counts[clip], s.bins);
    }
  });
}

template <typename Real>
std::tuple<at::Tensor, at::Tensor> fbank_typed(const at::Tensor& waveforms, const at::Tensor& lengths,
                                               const std::optional<at::Tensor>& mean,
                                               const std::optional<at::Tensor>& istd, Seed seed,
                                               const FbankShape& shape, const FbankKey& key) {
  const FbankTensors<Real> tensors(waveforms, lengths, mean, istd, shape);
  const Job<Real> job{shape,
                      fbank_tables<Real>(key),
                      tensors.lengths.template const_data_ptr<int64_t>(),
                      tensors.mean_data(),
                      tensors.istd_data(),
                      seed.key(),
                      seed.stream(),
                      tensors.features.template mutable_data_ptr<Real>(),
                      tensors.counts.template mutable_data_ptr<int64_t>()};
  tensors.with_samples([&](const auto* samples) { run(job, samples); });
  return tensors.outputs();
}

std::tuple<at::Tensor, at::Tensor> fbank_cpu(
    const at::Tensor& waveforms, const at::Tensor& lengths, const std::optional<at::Tensor>& mean,
    const std::optional<at::Tensor>& istd, const at::Tensor& seed, const at::Tensor& offset,
    double sample_rate, int64_t num_mel_bins, double frame_length, double frame_shift,
    c10::string_view window, double preemphasis, bool remove_dc_offset, double low_freq,
    double high_freq, bool use_power, bool snip_edges, double dither, double scale,
    bool cmvn_utterance) {
  const auto [shape, key] = fbank_arguments(
      waveforms, lengths, mean, istd,
      {sample_rate, num_mel_bins, frame_length, frame_shift, window, preemphasis, remove_dc_offset,
       low_freq, high_freq, use_power, snip_edges, dither, scale, cmvn_utterance});
  check_lengths_values("stk::fbank", "lengths", lengths, waveforms.size(1));
  const Seed draw = seed_argument("stk::fbank", seed, offset, waveforms, "waveforms");
  if (waveforms.scalar_type() == at::kDouble) {
    return fbank_typed<double>(waveforms, lengths, mean, istd, draw, shape, key);
  }
  return fbank_typed<float>(waveforms, lengths, mean, istd, draw, shape, key);
}

}  // namespace
}  // namespace stk

TORCH_LIBRARY_IMPL(stk, CPU, m) { m.impl("fbank", &stk::fbank_cpu); }
