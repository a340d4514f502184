// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace tq {

// For messages.
inline double Mebibytes(uint64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

}  // namespace tq
