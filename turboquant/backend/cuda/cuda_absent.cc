// SPDX-License-Identifier: Apache-2.0
#include "turboquant/backend/cuda/cuda_backend.h"

namespace tq {

const bool kCudaBuiltIn = false;

std::unique_ptr<Backend> MakeCudaBackend(const BackendOptions&) {
  Throw(ErrorCode::kUnsupported, "device 'cuda': this version has no CUDA backend yet, only cpu");
}

}  // namespace tq
