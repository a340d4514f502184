// SPDX-License-Identifier: Apache-2.0
// The codecs' level tables as words of byte permutes, one list for all: two words for each scalar
// codebook, six for each trellis (base, step, half).
#pragma once

#include <cstdint>

#include "turboquant/codec/codebook.h"
#include "turboquant/codec/trellis.h"

namespace tq::cuda {

inline constexpr int kTrellisTableWords = 6;
inline constexpr int kFirstTrellisTable = 2 * static_cast<int>(kCodebooks.size());
inline constexpr int kLevelTableWords =
    kFirstTrellisTable + kTrellisTableWords * static_cast<int>(kTrellises.size());

constexpr int ScalarTable(int bits) { return 2 * (bits - 2); }
constexpr int TrellisTable(int bits) {
  return kFirstTrellisTable + kTrellisTableWords * (bits - 2);
}

constexpr uint32_t LevelTableWord(int index) {
  uint8_t bytes[8] = {};
  if (index < kFirstTrellisTable) {
    const auto levels = kCodebooks[static_cast<size_t>(index / 2)].SelectorTable();
    for (size_t i = 0; i < 8; ++i) bytes[i] = static_cast<uint8_t>(levels[i]);
  } else {
    const int in_list = index - kFirstTrellisTable;
    const Trellis& trellis = kTrellises[static_cast<size_t>(in_list / kTrellisTableWords)];
    const int table = in_list % kTrellisTableWords / 2;
    for (size_t i = 0; i < 8; ++i) {
      bytes[i] = table == 0 ? trellis.base[i] : table == 1 ? trellis.step[i] : trellis.half[i];
    }
  }
  uint32_t word = 0;
  for (int i = 0; i < 4; ++i) word |= static_cast<uint32_t>(bytes[index % 2 * 4 + i]) << (8 * i);
  return word;
}

}  // namespace tq::cuda
