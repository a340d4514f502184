// SPDX-License-Identifier: Apache-2.0
// The largest of many values in one pass. NaN is never it; of equal ones the first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace tq {

// -infinity if there is none.
float LargestValue(std::span<const float> values);
// -1 if there is none above -infinity.
int32_t LargestIndex(std::span<const float> values);

// Nearly all blocks of this size are passed over by their largest value alone.
inline constexpr size_t kLargestBlock = 256;

}  // namespace tq
