// SPDX-License-Identifier: Apache-2.0
// Cuts one worker's slice of memory into arrays. With a null base it only counts.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tq {

class MemorySlice {
 public:
  explicit MemorySlice(std::byte* base) : base_(base) {}

  // 64-byte aligned, uninitialised; a null pointer while counting.
  template <typename T>
  T* Take(int64_t count) {
    std::byte* p = base_ == nullptr ? nullptr : base_ + used_;
    used_ += (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
    return reinterpret_cast<T*>(p);
  }
  int64_t used() const { return used_; }

 private:
  std::byte* base_;
  int64_t used_ = 0;
};

}  // namespace tq
