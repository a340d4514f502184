// SPDX-License-Identifier: Apache-2.0
#include "turboquant/backend/cuda/cuda_backend.h"

namespace tq {

const bool kCudaBuiltIn = false;

std::unique_ptr<Backend> MakeCudaBackend(const BackendOptions&) {
  Throw(ErrorCode::kUnsupported, "device 'cuda' is not in this build: it has cpu");
}

}  // namespace tq
