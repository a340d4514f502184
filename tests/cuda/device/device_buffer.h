// SPDX-License-Identifier: Apache-2.0
// Device memory of tests and benchmarks. tests/cuda/emulated/device_buffer.h stands in for it.
#pragma once

#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <span>
#include <vector>

namespace tq {

inline void CheckCuda(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::printf("CUDA: %s: %s\n", what, cudaGetErrorString(error));
  std::fflush(stdout);
  std::exit(3);
}

inline void WaitForDevice() {
  CheckCuda(cudaGetLastError(), "launch");
  CheckCuda(cudaDeviceSynchronize(), "synchronize");
}

template <typename T>
class DeviceBuffer {
 public:
  // Filled with 0xff: whatever is read unwritten shows.
  explicit DeviceBuffer(size_t n) : size_(n) {
    CheckCuda(cudaMalloc(&data_, n * sizeof(T)), "malloc");
    CheckCuda(cudaMemset(data_, 0xff, n * sizeof(T)), "memset");
  }
  explicit DeviceBuffer(std::span<const T> values) : DeviceBuffer(values.size()) { Upload(values); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;
  ~DeviceBuffer() { cudaFree(data_); }

  void Upload(std::span<const T> values) {
    CheckCuda(cudaMemcpy(data_, values.data(), values.size_bytes(), cudaMemcpyHostToDevice),
              "upload");
  }
  std::vector<T> Download() const {
    WaitForDevice();
    std::vector<T> values(size_);
    CheckCuda(cudaMemcpy(values.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost),
              "download");
    return values;
  }
  void Fill(int byte) { CheckCuda(cudaMemset(data_, byte, size_ * sizeof(T)), "memset"); }
  T* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace tq
