// SPDX-License-Identifier: Apache-2.0
#include "turboquant/backend/cuda/cuda_backend.h"
#include "turboquant/backend/gpu_info.h"

namespace tq {

const bool kCudaBuiltIn = false;

std::unique_ptr<Backend> MakeCudaBackend(const BackendOptions& options) {
  Throw(
      ErrorCode::kUnsupported,
      "device '{}': this build has no CUDA backend; build with -DTQ_CUDA=ON (docs/cli.md), or use "
      "--device cpu",
      options.device);
}

GpuList ListGpus() {
  GpuList list;
  list.why_none = "this build has no CUDA backend (TQ_CUDA is off)";
  return list;
}

std::string PromptAttention() { return "nothing: " + ListGpus().why_none; }

}  // namespace tq
