// SPDX-License-Identifier: Apache-2.0
// Owning handles of CUDA objects: memory of the device, pinned memory of the host, streams, events.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <utility>

namespace tq::cuda {

// Device memory, aligned to 256 bytes. Move-only; contents are uninitialised.
class DeviceBytes {
 public:
  DeviceBytes() = default;
  DeviceBytes(size_t size, const char* what);  // throws kOutOfMemory naming `what`
  ~DeviceBytes();
  DeviceBytes(DeviceBytes&& other) noexcept { *this = std::move(other); }
  DeviceBytes& operator=(DeviceBytes&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }

  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  size_t size() const { return size_; }
  // Grow-only: a larger block replaces it (contents are not kept; waits for the device). True if it
  // grew.
  bool EnsureSize(size_t size, const char* what);
  // The same, and a block that is new is all zeros, in the order of the stream.
  bool EnsureZeroed(size_t size, const char* what, cudaStream_t stream);

 private:
  void* data_ = nullptr;
  size_t size_ = 0;
};

// Copies and waits until the bytes are there, for streams of any kind.
void CopyToDevice(void* device, const void* host, size_t bytes, const char* what);

// Host memory that the device copies from and to without a detour. Move-only.
class PinnedBytes {
 public:
  PinnedBytes() = default;
  explicit PinnedBytes(size_t size);
  ~PinnedBytes();
  PinnedBytes(PinnedBytes&& other) noexcept { *this = std::move(other); }
  PinnedBytes& operator=(PinnedBytes&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  size_t size() const { return size_; }
  bool EnsureSize(size_t size);  // grow-only; contents are not kept

 private:
  void* data_ = nullptr;
  size_t size_ = 0;
};

class OwnedStream {
 public:
  // Whose blocks start first where there is room for one. Devices of two priorities have the
  // highest one in place of the high one.
  enum class Priority { kLow, kHigh, kHighest };
  explicit OwnedStream(Priority priority);  // does not wait for the default stream
  ~OwnedStream();
  OwnedStream(const OwnedStream&) = delete;
  OwnedStream& operator=(const OwnedStream&) = delete;
  operator cudaStream_t() const { return stream_; }
  void Synchronize() const;

 private:
  cudaStream_t stream_ = nullptr;
};

// Orders work of one stream behind work of another.
class OwnedEvent {
 public:
  OwnedEvent();
  ~OwnedEvent();
  OwnedEvent(const OwnedEvent&) = delete;
  OwnedEvent& operator=(const OwnedEvent&) = delete;
  operator cudaEvent_t() const { return event_; }
  void Record(cudaStream_t stream) const;
  void MakeWait(cudaStream_t stream) const;  // what is launched later waits for what was recorded
  void Synchronize() const;                  // the host waits

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace tq::cuda
