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
  bool group_mma;     // GroupMma of lane_ops.cuh (in code for sm_90a, as the build's default is)
};

inline DeviceLimits CurrentDeviceLimits() {
  int device = 0;
  int major = 0;
  DeviceLimits limits = {};
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&limits.processors, cudaDevAttrMultiProcessorCount, device) !=
          cudaSuccess ||
      cudaDeviceGetAttribute(&limits.shared_memory, cudaDevAttrMaxSharedMemoryPerBlockOptin,
                             device) != cudaSuccess ||
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess) {
    Throw(ErrorCode::kUnsupported, "there is no usable CUDA device: {}",
          cudaGetErrorString(cudaGetLastError()));
  }
  limits.group_mma = major == 9;
  return limits;
}

// `overlap`: the kernel may be set up while the one before it in the stream still runs; it must
// call WaitForInputs before it reads what others write, unless all of it was there when the kernel
// ahead of it began.
template <class... Args>
void LaunchMaybeOverlapping(bool overlap, void (*kernel)(Args...), int blocks, int threads,
                            int shared_bytes, Stream stream, Args... args) {
  if (blocks == 0) return;
  const void* function = reinterpret_cast<const void*>(kernel);
  cudaError_t error = cudaSuccess;
  if (shared_bytes > 48 * 1024) {
    error =
        cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
  }
  if (error == cudaSuccess) {
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(static_cast<unsigned>(blocks));
    config.blockDim = dim3(static_cast<unsigned>(threads));
    config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = overlap ? 1 : 0;
    void* pointers[] = {&args...};
    error = cudaLaunchKernelExC(&config, function, pointers);
  }
  if (error != cudaSuccess) {
    Throw(ErrorCode::kUnsupported,
          "the CUDA device refuses a kernel of {} threads and {} bytes: {}", threads, shared_bytes,
          cudaGetErrorString(error));
  }
}

template <class... Args>
void Launch(void (*kernel)(Args...), int blocks, int threads, int shared_bytes, Stream stream,
            Args... args) {
  LaunchMaybeOverlapping(false, kernel, blocks, threads, shared_bytes, stream, args...);
}

}  // namespace tq::cuda
