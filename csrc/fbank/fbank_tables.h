// Constant tables of a filterbank configuration, computed in fp64 and kept for the life of the process.
// Host code.
#pragma once

#include <c10/util/Exception.h>

#include <cmath>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "fbank/fbank.h"

namespace stk {

// What the tables depend on.
struct FbankKey {
  double sample_rate, low, high;
  int32_t window, fft, bins;
  std::string name;  // of the window function

  bool operator<(const FbankKey& other) const {
    return std::tie(sample_rate, low, high, window, fft, bins, name) <
           std::tie(other.sample_rate, other.low, other.high, other.window, other.fft, other.bins,
                    other.name);
  }
};

// The transform is a decimation-in-frequency FFT of fft / 2 complex points, in place: radix 4, and one
// last pass of radix 2 where the size asks for it.
template <typename Real>
struct FbankTables {
  std::vector<double> window;
  std::vector<double> twiddles;    // per radix-4 pass, per j: w^j, w^2j, w^3j as (re, im) pairs
  std::vector<double> turns;       // exp(-2 pi i k / fft) for k = 0 to fft / 4, (re, im) pairs
  std::vector<int32_t> position;   // where frequency k of the complex transform lies afterwards
  std::vector<int32_t> mel_start;  // bins + 1: offsets into mel_weights
  std::vector<int32_t> mel_first;  // bins: first frequency of the triangle
  std::vector<Real> mel_weights;
};

inline double fbank_window_value(const std::string& name, int32_t i, int32_t size) {
  const double turn = 2.0 * M_PI * i / std::max(size - 1, 1);
  if (name == "povey") return std::pow(0.5 - 0.5 * std::cos(turn), 0.85);
  if (name == "hanning") return 0.5 - 0.5 * std::cos(turn);
  if (name == "hamming") return 0.54 - 0.46 * std::cos(turn);
  if (name == "blackman") return 0.42 - 0.5 * std::cos(turn) + 0.08 * std::cos(2.0 * turn);
  TORCH_CHECK_VALUE(name == "rectangular", "stk::fbank: window is \"", name,
                    "\" but expected povey, hanning, hamming, blackman or rectangular");
  return 1.0;
}

inline int32_t fbank_position(int32_t frequency, int32_t size) {
  int32_t base = 0;
  while (size > 1) {
    const int32_t radix = size >= 4 ? 4 : 2;
    size /= radix;
    base += (frequency % radix) * size;
    frequency /= radix;
  }
  return base;
}

inline void push_turn(std::vector<double>& table, double part) {
  table.push_back(std::cos(-2.0 * M_PI * part));
  table.push_back(std::sin(-2.0 * M_PI * part));
}

// Triangles that are even on the mel scale 1127 log(1 + f / 700); the Nyquist bin has no weight.
template <typename Real>
void fill_mel(const FbankKey& key, FbankTables<Real>& tables) {
  const auto mel = [](double hertz) { return 1127.0 * std::log1p(hertz / 700.0); };
  const double bottom = mel(key.low), delta = (mel(key.high) - bottom) / (key.bins + 1);
  tables.mel_start.push_back(0);
  for (int32_t bin = 0; bin < key.bins; ++bin) {
    const double left = bottom + bin * delta;
    int32_t first = 0;
    for (int32_t k = 0; k < key.fft / 2; ++k) {
      const double at = mel(k * (key.sample_rate / key.fft));
      const double weight = std::min((at - left) / delta, (left + 2.0 * delta - at) / delta);
      if (weight <= 0.0) continue;
      if (tables.mel_weights.size() == static_cast<size_t>(tables.mel_start.back())) first = k;
      tables.mel_weights.push_back(static_cast<Real>(weight));
    }
    tables.mel_first.push_back(first);
    tables.mel_start.push_back(static_cast<int32_t>(tables.mel_weights.size()));
  }
}

template <typename Real>
FbankTables<Real> make_fbank_tables(const FbankKey& key) {
  FbankTables<Real> tables;
  for (int32_t i = 0; i < key.window; ++i) {
    tables.window.push_back(fbank_window_value(key.name, i, key.window));
  }
  const int32_t points = key.fft / 2;
  for (int32_t size = points; size >= 4; size /= 4) {
    for (int32_t j = 0; j < size / 4; ++j) {
      for (int32_t power = 1; power <= 3; ++power) {
        push_turn(tables.twiddles, static_cast<double>(power * j) / size);
      }
    }
  }
  for (int32_t k = 0; k <= points / 2; ++k) {
    push_turn(tables.turns, static_cast<double>(k) / key.fft);
  }
  for (int32_t k = 0; k < points; ++k) tables.position.push_back(fbank_position(k, points));
  fill_mel(key, tables);
  return tables;
}

// The tables of `key`, made on first use. Any thread may call it.
template <typename Real>
std::shared_ptr<const FbankTables<Real>> fbank_tables(const FbankKey& key) {
  static std::mutex mutex;
  static std::map<FbankKey, std::shared_ptr<const FbankTables<Real>>> known;
  const std::lock_guard<std::mutex> lock(mutex);
  auto& entry = known[key];
  if (!entry) entry = std::make_shared<const FbankTables<Real>>(make_fbank_tables<Real>(key));
  return entry;
}

}  // namespace stk
