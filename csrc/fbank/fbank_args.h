// The operator's arguments, checked and turned into a shape and a table key. Host code.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "common/checks.h"
#include "fbank/fbank_tables.h"

namespace stk {

// Options of stk::fbank, in the schema's order.
struct FbankOptions {
  double sample_rate;
  int64_t num_mel_bins;
  double frame_length, frame_shift;
  c10::string_view window;
  double preemphasis;
  bool remove_dc_offset;
  double low_freq, high_freq;
  bool use_power, snip_edges;
  double dither, scale;
  bool cmvn_utterance;
};

inline std::pair<FbankShape, FbankKey> fbank_arguments(
    const at::Tensor& waveforms, const at::Tensor& lengths, const std::optional<at::Tensor>& mean,
    const std::optional<at::Tensor>& istd, const FbankOptions& o) {
  constexpr const char* op = "stk::fbank";
  check_rank(op, "waveforms", waveforms, 2, "(B, N)");
  const auto type = waveforms.scalar_type();
  check_dtype(op, "waveforms", waveforms,
              type == at::kShort || type == at::kFloat || type == at::kDouble,
              "int16, float32 or float64");
  check_lengths(op, "lengths", lengths, waveforms, "waveforms");
  const double top = o.high_freq > 0.0 ? o.high_freq : 0.5 * o.sample_rate + o.high_freq;
  const double window = o.sample_rate * o.frame_length / 1000.0;
  const double shift = o.sample_rate * o.frame_shift / 1000.0;
  TORCH_CHECK_VALUE(window >= 2.0 && window < kFbankMaxFft + 1.0, op, ": frame_length must span 2 to ",
                    kFbankMaxFft, " samples, not ", window);
  TORCH_CHECK_VALUE(shift >= 1.0 && shift < 1e9, op, ": frame_shift must span 1 to 1e9 samples, not ",
                    shift);
  TORCH_CHECK_VALUE(o.num_mel_bins >= 1 && o.num_mel_bins <= 65536, op,
                    ": num_mel_bins must be 1 to 65536, not ", o.num_mel_bins);
  TORCH_CHECK_VALUE(o.low_freq >= 0.0 && o.low_freq < top && top <= 0.5 * o.sample_rate, op,
                    ": low_freq and high_freq must satisfy 0 <= low < high <= ",
                    0.5 * o.sample_rate, ", not ", o.low_freq, " and ", top);
  TORCH_CHECK_VALUE(mean.has_value() == istd.has_value(), op,
                    ": cmvn_mean and cmvn_istd are given together or not at all");
  for (const auto* moment : {&mean, &istd}) {
    if (!moment->has_value()) continue;
    check_rank(op, "cmvn", **moment, 1, "(M,)");
    check_size(op, "cmvn", **moment, 0, o.num_mel_bins, "num_mel_bins");
    check_device(op, "cmvn", **moment, waveforms, "waveforms");
  }
  FbankShape shape{};
  shape.batch = waveforms.size(0);
  shape.samples = waveforms.size(1);
  shape.window = static_cast<int32_t>(window);
  shape.shift = static_cast<int32_t>(shift);
  shape.fft = 2;
  while (shape.fft < shape.window) shape.fft *= 2;
  shape.bins = static_cast<int32_t>(o.num_mel_bins);
  shape.frames = fbank_frames(shape.samples, shape.window, shape.shift, o.snip_edges);
  shape.remove_dc = o.remove_dc_offset;
  shape.use_power = o.use_power;
  shape.snip_edges = o.snip_edges;
  shape.normalise = o.cmvn_utterance;
  shape.preemphasis = o.preemphasis;
  shape.scale = type == at::kShort ? o.scale / 32768.0 : o.scale;
  shape.dither = o.dither;
  FbankKey key{o.sample_rate, o.low_freq,  top,
               shape.window,  shape.fft,   shape.bins,
               std::string(o.window.data(), o.window.size())};
  return {shape, std::move(key)};
}

// Dense inputs and fresh outputs of one call, Real being the dtype of the features.
template <typename Real>
struct FbankTensors {
  at::Tensor waves, lengths, mean, istd;  // mean, istd: undefined where absent
  at::Tensor features, counts;

  FbankTensors(const at::Tensor& waveforms, const at::Tensor& sizes,
               const std::optional<at::Tensor>& centre, const std::optional<at::Tensor>& factor,
               const FbankShape& shape)
      : waves(waveforms.contiguous()), lengths(sizes.contiguous()) {
    constexpr auto type = c10::CppTypeToScalarType<Real>::value;
    if (centre) mean = centre->to(type).contiguous();
    if (factor) istd = factor->to(type).contiguous();
    features = at::empty({shape.batch, shape.frames, shape.bins}, waves.options().dtype(type));
    counts = at::empty({shape.batch}, lengths.options());
  }

  const Real* mean_data() const { return mean.defined() ? mean.const_data_ptr<Real>() : nullptr; }
  const Real* istd_data() const { return istd.defined() ? istd.const_data_ptr<Real>() : nullptr; }

  // Calls work(pointer to the samples) with their type: int16 or fp32 for fp32 features, else fp64.
  template <typename Work>
  auto with_samples(const Work& work) const {
    if constexpr (std::is_same_v<Real, float>) {
      if (waves.scalar_type() == at::kShort) return work(waves.const_data_ptr<int16_t>());
    }
    return work(waves.const_data_ptr<Real>());
  }

  std::tuple<at::Tensor, at::Tensor> outputs() const { return {features, counts}; }
};

}  // namespace stk
