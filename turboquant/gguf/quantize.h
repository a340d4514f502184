// SPDX-License-Identifier: Apache-2.0
// Simple quantisers (round to nearest, no search) to some of the formats: for tests and tools, not
// for quality.
#pragma once

#include <cstddef>
#include <cstdint>

#include "turboquant/gguf/block_formats.h"

namespace tq {

// F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1.
bool CanQuantize(BlockFormat format);

// n values (a multiple of the format's values per block) -> blocks. Throws kUnsupported if not
// CanQuantize(format).
void QuantizeRow(BlockFormat format, const float* values, int64_t n, std::byte* blocks);

}  // namespace tq
