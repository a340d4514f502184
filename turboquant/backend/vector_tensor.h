// SPDX-License-Identifier: Apache-2.0
// Norms and biases of a model file as f32.
#pragma once

#include <span>

#include "turboquant/gguf/gguf_file.h"

namespace tq {

uint64_t ValuesOf(std::span<const GgufTensor* const> tensors);

// End to end into out. Throws kUnsupported for a format that vectors are not stored in.
void DecodeVectors(std::span<const GgufTensor* const> tensors, float* out);

}  // namespace tq
