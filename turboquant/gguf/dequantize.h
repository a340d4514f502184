// SPDX-License-Identifier: Apache-2.0
// Plain decoding of every format of kBlockFormats to float32: the oracle for packed weights, and
// what tools use. Layouts of the blocks: block_layouts.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "turboquant/gguf/block_formats.h"

namespace tq {

// Decodes n values (a multiple of the format's values per block) into out [n]. Products of scales
// and codes fit 24 bits and are exact; formats with an offset round once, in the final sum. Any
// bytes decode to something: f16 infinities and NaNs in damaged scales come out as they are.
void DequantizeRow(BlockFormat format, const std::byte* blocks, int64_t n, float* out);

}  // namespace tq
