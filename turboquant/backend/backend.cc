// SPDX-License-Identifier: Apache-2.0
#include "turboquant/backend/backend.h"

#include "turboquant/backend/cpu/cpu_backend.h"
#include "turboquant/backend/cuda/cuda_backend.h"

namespace tq {

std::unique_ptr<Backend> MakeBackend(const BackendOptions& options) {
  if (options.threads < 0) {
    Throw(ErrorCode::kInvalidArgument, "{} threads: give 1 or more, or 0 for all processors",
          options.threads);
  }
  if (options.device == "cpu") return MakeCpuBackend(options.threads);
  if (options.device == "cuda" || options.device.starts_with("cuda:"))
    return MakeCudaBackend(options);
  Throw(ErrorCode::kUnsupported, "unknown device '{}': this build has {}", options.device,
        kCudaBuiltIn ? "cpu, cuda" : "cpu");
}

}  // namespace tq
