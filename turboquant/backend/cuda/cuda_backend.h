// SPDX-License-Identifier: Apache-2.0
// Whether there is a CUDA backend is a choice of files in CMake: cuda_absent.cc stands in for it.
#pragma once

#include <memory>

#include "turboquant/backend/backend.h"

namespace tq {

extern const bool kCudaBuiltIn;
std::unique_ptr<Backend> MakeCudaBackend(const BackendOptions& options);

}  // namespace tq
