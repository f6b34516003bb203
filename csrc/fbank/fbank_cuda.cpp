// stk::fbank on CUDA: checks, tables on the device, outputs, launch. Lengths stay on the device.
#include <ATen/ops/from_blob.h>
#include <torch/library.h>

#include <map>
#include <mutex>
#include <utility>

#include "common/cuda_launch.h"
#include "fbank/fbank_args.h"

namespace stk {
namespace {

template <typename T>
at::Tensor to_device(const std::vector<T>& values, c10::Device device) {
  const auto options = at::TensorOptions().dtype(c10::CppTypeToScalarType<T>::value);
  const auto count = static_cast<int64_t>(values.size());
  return at::from_blob(const_cast<T*>(values.data()), {count}, options).to(device);
}

struct DeviceTables {
  at::Tensor window, turns, position, mel_start, mel_first, mel_weights;
};

// Tables of `key` on `device`. The first call copies them there and waits for that, so make it before a
// CUDA graph is captured; later calls find them. They are never freed: at exit the driver may be gone
// before a static object is.
template <typename Real>
FbankDeviceTables<Real> device_tables(const FbankKey& key, c10::Device device) {
  static std::mutex mutex;
  static auto* known = new std::map<std::pair<FbankKey, int>, DeviceTables>();
  const std::lock_guard<std::mutex> lock(mutex);
  const std::pair<FbankKey, int> name{key, device.index()};
  auto entry = known->find(name);
  if (entry == known->end()) {
    const auto host = fbank_tables<Real>(key);
    // Kept only once they are whole: what fails here (a full device, say) is tried again next time.
    const DeviceTables made{
        to_device(host->window, device),    to_device(host->turns, device),
        to_device(host->position, device),  to_device(host->mel_start, device),
        to_device(host->mel_first, device), to_device(host->mel_weights, device)};
    entry = known->emplace(name, made).first;
  }
  const DeviceTables& on = entry->second;
  return {on.window.const_data_ptr<double>(),     on.turns.const_data_ptr<double>(),
          on.position.const_data_ptr<int32_t>(),  on.mel_start.const_data_ptr<int32_t>(),
          on.mel_first.const_data_ptr<int32_t>(), on.mel_weights.const_data_ptr<Real>()};
}

template <typename Real>
std::tuple<at::Tensor, at::Tensor> fbank_typed(const at::Tensor& waveforms, const at::Tensor& lengths,
                                               const std::optional<at::Tensor>& mean,
                                               const std::optional<at::Tensor>& istd, Seed seed,
                                               const FbankShape& shape, const FbankKey& key) {
  const FbankTensors<Real> tensors(waveforms, lengths, mean, istd, shape);
  const FbankDeviceTables<Real> tables = device_tables<Real>(key, waveforms.device());
  const cudaError_t launched = tensors.with_samples([&](const auto* samples) {
    return launch_fbank(shape, tables, samples, tensors.lengths.template const_data_ptr<int64_t>(),
                        tensors.mean_data(), tensors.istd_data(), seed,
                        tensors.features.template mutable_data_ptr<Real>(),
                        tensors.counts.template mutable_data_ptr<int64_t>(), stream_of(waveforms));
  });
  check_launch("stk::fbank", launched);
  return tensors.outputs();
}

std::tuple<at::Tensor, at::Tensor> fbank_cuda(
    const at::Tensor& waveforms, const at::Tensor& lengths, const std::optional<at::Tensor>& mean,
    const std::optional<at::Tensor>& istd, const at::Tensor& seed, const at::Tensor& offset,
    double sample_rate, int64_t num_mel_bins, double frame_length, double frame_shift,
    c10::string_view window, double preemphasis, bool remove_dc_offset, double low_freq,
    double high_freq, bool use_power, bool snip_edges, double dither, double scale,
    bool cmvn_utterance) {
  check_on_cuda("stk::fbank", "waveforms", waveforms);
  const c10::cuda::CUDAGuard guard(waveforms.device());
  const auto [shape, key] = fbank_arguments(
      waveforms, lengths, mean, istd,
      {sample_rate, num_mel_bins, frame_length, frame_shift, window, preemphasis, remove_dc_offset,
       low_freq, high_freq, use_power, snip_edges, dither, scale, cmvn_utterance});
  TORCH_CHECK_VALUE(shape.batch * shape.frames < (int64_t{1} << 31), "stk::fbank: waveforms has ",
                    shape.batch * shape.frames, " frames but expected fewer than 2^31");
  const Seed draw = seed_argument("stk::fbank", seed, offset, waveforms, "waveforms");
  if (waveforms.scalar_type() == at::kDouble) {
    return fbank_typed<double>(waveforms, lengths, mean, istd, draw, shape, key);
  }
  return fbank_typed<float>(waveforms, lengths, mean, istd, draw, shape, key);
}

}  // namespace
}  // namespace stk

TORCH_LIBRARY_IMPL(stk, CUDA, m) { m.impl("fbank", &stk::fbank_cuda); }
