// SPDX-License-Identifier: Apache-2.0
#include "turboquant/base/cuda/cuda_error.h"

#include "turboquant/base/error.h"
#include "turboquant/base/mebibytes.h"

namespace tq::cuda {
void Check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  if (status == cudaErrorMemoryAllocation)
    Throw(ErrorCode::kOutOfMemory, "the GPU has no memory left for {}", what);
  Throw(ErrorCode::kIo, "the GPU failed while {}: {} ({})", what, cudaGetErrorString(status),
        cudaGetErrorName(status));
}

MemoryInfo DeviceMemoryInfo() {
  size_t free_bytes = 0, total_bytes = 0;
  Check(cudaMemGetInfo(&free_bytes, &total_bytes), "asking for its free memory");
  return {free_bytes, total_bytes};
}

void ThrowOutOfMemory(uint64_t bytes, const char* what) {
  cudaGetLastError();  // the failed allocation is dealt with here
  const MemoryInfo memory = DeviceMemoryInfo();
  Throw(ErrorCode::kOutOfMemory,
        "{:.1f} MiB of GPU memory are needed for {}, but only {:.1f} of {:.1f} MiB are free: use a "
        "smaller model, context or cache type, or end what else runs on the GPU",
        Mebibytes(bytes), what, Mebibytes(memory.free_bytes), Mebibytes(memory.total_bytes));
}

}  // namespace tq::cuda
