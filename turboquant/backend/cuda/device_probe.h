// SPDX-License-Identifier: Apache-2.0
// Does code of this build run on the current device?
#pragma once

#include <cuda_runtime_api.h>

namespace tq::cuda {

cudaError_t ProbeKernel();  // launches an empty kernel and waits

}  // namespace tq::cuda
