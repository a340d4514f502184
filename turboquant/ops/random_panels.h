// SPDX-License-Identifier: Apache-2.0
// Random 4-bit weights in the layout of Q4_0, word by word: the same bytes wherever they are made.
#pragma once

#include <cstdint>

#include "turboquant/ops/packed_layouts.h"

namespace tq {

inline constexpr int kRandomLayout = LayoutIndexOf(BlockFormat::kQ4_0);
inline constexpr int64_t kRandomRecordWords =
    kPackedLayouts[static_cast<size_t>(kRandomLayout)].record_bytes() / 4;
inline constexpr int64_t kRandomScaleWords =
    kPackedLayouts[static_cast<size_t>(kRandomLayout)].scale_bytes() / 4;

// Word `index` of the panels of a matrix; scale: f16 bits of every group's scale. (A mixer of 32
// bits: Chris Wellons, "lowbias32", 2018.)
constexpr uint32_t RandomPanelWord(uint64_t seed, uint64_t index, uint32_t scale) {
  if (index % kRandomRecordWords < kRandomScaleWords) return scale | scale << 16;
  uint32_t x = static_cast<uint32_t>(index) ^ static_cast<uint32_t>(seed * 0x9e3779b9u);
  x = (x ^ x >> 16) * 0x7feb352du;
  x = (x ^ x >> 15) * 0x846ca68bu;
  return x ^ x >> 16;
}

// The scale at which a product keeps its input's size: codes - 8 have a mean square of 21.5.
inline float RandomWeightScale(int64_t cols) {
  return 0.21567f / __builtin_sqrtf(static_cast<float>(cols));
}

}  // namespace tq
