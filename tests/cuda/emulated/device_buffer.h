// SPDX-License-Identifier: Apache-2.0
// Stands in for tests/cuda/device/device_buffer.h: host memory.
#pragma once

#include <cstring>
#include <span>
#include <vector>

#include "turboquant/base/aligned_buffer.h"

namespace tq {

inline void WaitForDevice() {}

template <typename T>
class DeviceBuffer {
 public:
  explicit DeviceBuffer(size_t n) : memory_(n) { Fill(0xff); }
  explicit DeviceBuffer(std::span<const T> values) : DeviceBuffer(values.size()) { Upload(values); }

  void Upload(std::span<const T> values) {
    std::memcpy(memory_.data(), values.data(), values.size_bytes());
  }
  std::vector<T> Download() const {
    return std::vector<T>(memory_.data(), memory_.data() + memory_.size());
  }
  void Fill(int byte) {
    std::memset(static_cast<void*>(memory_.data()), byte, memory_.size() * sizeof(T));
  }
  T* data() const { return const_cast<T*>(memory_.data()); }
  size_t size() const { return memory_.size(); }

 private:
  AlignedBuffer<T> memory_;
};

}  // namespace tq
