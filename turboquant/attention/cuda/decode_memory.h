// SPDX-License-Identifier: Apache-2.0
// Shared memory of a decode block: host and device agree on it here.
#pragma once

#include <cstdint>

#include "turboquant/codec/cuda/level_tables.h"

namespace tq::cuda {

// Shared memory of a block, in order. `columns`: query rows of a block.
struct DecodeMemory {
  int starts;   // uint32 [slots + 1] units before a slot
  int slots;    // SlotQueries [slots]
  int levels;   // uint32 [kLevelTableWords][32]
  int row;      // float [columns][dim + 8]: query rows, then merged outputs
  int bytes;    // int8 [columns][2][dim]: low and high bytes of 16-bit queries
  int columns;  // Column [columns]
  int parts;    // float2 [2][warps][columns of a warp]: m and l, then factors
  int flags;    // int [4]
  int ring;     // [warps][2][stage_bytes]
  int size;
};
// What StepTables says of a slot, read once.
struct alignas(16) SlotQueries {
  int32_t first_position;
  int32_t tokens;
  int32_t sealed_below;
  int32_t first_row;
};
struct Column {
  float scale;       // of its 16-bit values
  int32_t sum;       // of them
  int32_t position;  // of its query, -1: none
  float m, l;
};
constexpr int kRowPad = 8;  // floats: rows of a fragment's lanes fall into different banks

constexpr DecodeMemory MakeDecodeMemory(int dim, int columns, int columns_per_warp, int slots,
                                        int warps, int stage_bytes) {
  const auto align = [](int n) { return (n + 127) / 128 * 128; };
  DecodeMemory m = {};
  m.slots = align((slots + 1) * 4);
  m.levels = m.slots + align(slots * static_cast<int>(sizeof(SlotQueries)));
  m.row = m.levels + kLevelTableWords * 128;
  m.bytes = m.row + align(columns * (dim + kRowPad) * 4);
  m.columns = m.bytes + align(columns * 2 * dim);
  m.parts = m.columns + align(columns * static_cast<int>(sizeof(Column)));
  m.flags = m.parts + align(2 * warps * columns_per_warp * 8);
  m.ring = m.flags + 128;
  m.size = m.ring + warps * 2 * stage_bytes;
  return m;
}

}  // namespace tq::cuda
