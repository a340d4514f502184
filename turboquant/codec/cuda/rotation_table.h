// SPDX-License-Identifier: Apache-2.0
// One rotation as a kernel parameter: all of its factors are signs.
#pragma once

#include <cmath>
#include <cstdint>

#include "turboquant/codec/hadamard.h"
#include "turboquant/codec/transform.h"

namespace tq::cuda {

struct RotationTable {
  uint32_t negate_before[16] = {};  // bit i % 32 of word i / 32: dim i
  uint32_t negate_after[16] = {};
  uint32_t paley_negative[28] = {};  // bit k of row a: P_ak (or its transpose) is -1
  float scale = 1;
};

inline RotationTable MakeRotationTable(int head_dim, Side side, bool back) {
  RotationTable table;
  const auto signs = RotationSigns(head_dim, side);
  uint32_t* negate = back ? table.negate_after : table.negate_before;
  for (int i = 0; i < head_dim; ++i) {
    if (signs[static_cast<size_t>(i)] < 0) negate[i / 32] |= 1u << (i % 32);
  }
  const int order = FactorsOf(head_dim).order;
  for (int a = 0; a < order; ++a) {
    for (int k = 0; k < order; ++k) {
      const int entry = back ? PaleyEntry(order, k, a) : PaleyEntry(order, a, k);
      if (entry < 0) table.paley_negative[a] |= 1u << k;
    }
  }
  table.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim)));
  return table;
}

// Powers of two are rotated in registers, others by way of shared memory.
constexpr bool RotatesInRegisters(int head_dim) { return FactorsOf(head_dim).order == 1; }
// Shared memory that a warp needs, one warp's behind another's.
constexpr int QuadScratchBytes(int head_dim) {
  return RotatesInRegisters(head_dim) ? 0 : head_dim * 4;
}

}  // namespace tq::cuda
