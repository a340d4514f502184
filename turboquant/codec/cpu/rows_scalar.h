// SPDX-License-Identifier: Apache-2.0
// Rows of the comparison codecs, one value at a time: the definition that vector kernels are tested
// against.
#pragma once

#include <cstddef>

#include "turboquant/codec/codec.h"

namespace tq::scalar {

// Writes x [n] as a row. q8_0 and q4_0: n is a multiple of 32. NaN becomes 0; what the format
// cannot hold becomes its largest finite value.
void EncodeRow(Codec codec, const float* x, int n, std::byte* row) noexcept;

// Decodes n values of a row from value `first`, a multiple of 32, on.
void DecodeRow(Codec codec, const std::byte* row, int first, int n, float* out) noexcept;

}  // namespace tq::scalar
