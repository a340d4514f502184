// SPDX-License-Identifier: Apache-2.0
// CUDA's return codes as tq::Error. Host code only: kernels include nothing of ours that throws.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace tq::cuda {

// Throws kOutOfMemory or kIo if `status` is a failure; `what` says what was being done ("copying
// weights").
void Check(cudaError_t status, const char* what);

// After kernel launches: what the launch itself, or an earlier one, has reported.
inline void CheckLaunch(const char* what) { Check(cudaGetLastError(), what); }

struct MemoryInfo {
  uint64_t free_bytes = 0;
  uint64_t total_bytes = 0;
};
MemoryInfo DeviceMemoryInfo();  // of the current device

// `bytes` for `what` do not fit: throws kOutOfMemory with what is there and what is needed.
[[noreturn]] void ThrowOutOfMemory(uint64_t bytes, const char* what);

}  // namespace tq::cuda
