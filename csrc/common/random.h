// Scalars that may live on the host or on the device: seed, offset, tau. A kernel reads a device scalar
// itself, so that the host never waits for it and a CUDA graph replays with new values.
#pragma once

#include <cstdint>

#include "common/philox.h"

namespace stk {

// Value of type T, read from `device` where that is not null and taken from `host` otherwise.
template <typename T>
struct Scalar {
  T host;
  const T* device;

  STK_HD T get() const { return device ? *device : host; }
};

struct Seed {
  Scalar<int64_t> seed;
  Scalar<int64_t> offset;

  STK_HD uint64_t key() const { return static_cast<uint64_t>(seed.get()); }
  STK_HD uint64_t stream() const { return static_cast<uint64_t>(offset.get()); }
};

}  // namespace stk
