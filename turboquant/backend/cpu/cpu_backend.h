// SPDX-License-Identifier: Apache-2.0
// The backend on host memory. It owns the thread pool and the kernels' workspaces: one caller at a
// time.
#pragma once

#include <memory>

#include "turboquant/backend/backend.h"

namespace tq {

std::unique_ptr<Backend> MakeCpuBackend(int threads);

}  // namespace tq
