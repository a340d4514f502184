// SPDX-License-Identifier: Apache-2.0
// Host code's way to a device: launches and what a device is. tests/cuda/emulated/ stands in for
// this file too.
#pragma once

#include <cuda_runtime.h>

#include "turboquant/base/error.h"
#include "turboquant/codec/cuda/stream.h"

namespace tq::cuda {

struct DeviceLimits {
  int processors;     // multiprocessors
  int shared_memory;  // bytes that a block may have
};

inline DeviceLimits CurrentDeviceLimits() {
  int device = 0;
  DeviceLimits limits = {};
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&limits.processors, cudaDevAttrMultiProcessorCount, device) !=
          cudaSuccess ||
      cudaDeviceGetAttribute(&limits.shared_memory, cudaDevAttrMaxSharedMemoryPerBlockOptin,
                             device) != cudaSuccess) {
    Throw(ErrorCode::kUnsupported, "there is no usable CUDA device: {}",
          cudaGetErrorString(cudaGetLastError()));
  }
  return limits;
}

template <class... Args>
void Launch(void (*kernel)(Args...), int blocks, int threads, int shared_bytes, Stream stream,
            Args... args) {
  if (blocks == 0) return;
  cudaError_t error = cudaSuccess;
  if (shared_bytes > 48 * 1024) {
    error = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                 cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
  }
  if (error == cudaSuccess) {
    void* pointers[] = {&args...};
    error = cudaLaunchKernel(
        reinterpret_cast<const void*>(kernel), dim3(static_cast<unsigned>(blocks)),
        dim3(static_cast<unsigned>(threads)), pointers, static_cast<size_t>(shared_bytes), stream);
  }
  if (error != cudaSuccess) {
    Throw(ErrorCode::kUnsupported,
          "the CUDA device refuses a kernel of {} threads and {} bytes: {}", threads, shared_bytes,
          cudaGetErrorString(error));
  }
}

}  // namespace tq::cuda
