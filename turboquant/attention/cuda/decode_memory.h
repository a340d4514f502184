// SPDX-License-Identifier: Apache-2.0
// Shared memory of a decode block: host and device agree on it here.
#pragma once

#include <cstdint>

#include "turboquant/codec/cuda/level_tables.h"

namespace tq::cuda {

// Shared memory of a block, in order. `columns`: query rows of all crews.
struct DecodeMemory {
  int levels;   // uint32 [kLevelTableWords][32]
  int row;      // float [columns][dim + 8]: query rows, then rows of the output
  int bytes;    // int8 [columns][2][dim]: low and high bytes of 16-bit queries
  int columns;  // Column [columns]
  int states;   // float2 [warps][columns of a warp]: m and l of parts
  int flags;    // int [32]
  int ring;     // [warps][2][stage_bytes], then parts of outputs
  int size;
};
struct Column {
  float scale;       // of its 16-bit values
  int32_t sum;       // of them
  int32_t position;  // of its query, -1: none
};
constexpr int kRowPad = 8;  // floats: rows of a fragment's lanes fall into different banks

constexpr DecodeMemory MakeDecodeMemory(int dim, int columns, int columns_per_warp, int warps,
                                        int stage_bytes) {
  const auto align = [](int n) { return (n + 127) / 128 * 128; };
  DecodeMemory m = {};
  m.row = m.levels + kLevelTableWords * 128;
  m.bytes = m.row + align(columns * (dim + kRowPad) * 4);
  m.columns = m.bytes + align(columns * 2 * dim);
  m.states = m.columns + align(columns * static_cast<int>(sizeof(Column)));
  m.flags = m.states + align(warps * columns_per_warp * 8);
  m.ring = m.flags + 128;
  m.size = m.ring + warps * 2 * stage_bytes;
  return m;
}

}  // namespace tq::cuda
