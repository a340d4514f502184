// SPDX-License-Identifier: Apache-2.0
// Which GPU a backend runs on, and why it cannot.
#pragma once

#include <string_view>

#include "turboquant/backend/gpu_info.h"

namespace tq::cuda {

inline constexpr int kLeastCapability = 80;  // 10 * major + minor

// Makes the device that "cuda" or "cuda:N" names current. Throws kUnsupported or kInvalidArgument
// with what is there and what is needed.
GpuInfo UseDevice(std::string_view text);

}  // namespace tq::cuda
