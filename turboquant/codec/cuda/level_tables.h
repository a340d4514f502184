// SPDX-License-Identifier: Apache-2.0
// The codecs' level tables as words of byte permutes.
#pragma once

#include <cstdint>

#include "turboquant/codec/codebook.h"

namespace tq::cuda {

// The level tables of the scalar codebooks, as words: index 2 (bits - 2) + {0, 1}.
inline constexpr int kLevelTableWords = 6;
constexpr uint32_t LevelTableWord(int index) {
  const auto levels = kCodebooks[static_cast<size_t>(index / 2)].SelectorTable();
  uint32_t word = 0;
  for (int i = 0; i < 4; ++i) {
    word |=
        static_cast<uint32_t>(static_cast<uint8_t>(levels[static_cast<size_t>(index % 2 * 4 + i)]))
        << (8 * i);
  }
  return word;
}

}  // namespace tq::cuda
