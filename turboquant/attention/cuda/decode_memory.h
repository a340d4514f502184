// SPDX-License-Identifier: Apache-2.0
// Shared memory of a decode block: host and device agree on it here.
#pragma once

#include <cstddef>
#include <cstdint>

#include "turboquant/attention/cuda/decode_instances.h"
#include "turboquant/codec/cuda/level_tables.h"

namespace tq::cuda {

// Shared memory of a block, in order. `columns`: query rows of all crews; `warps`: those that
// attend. A ring is a warp's, or that of the warps of a step in a wide kernel.
struct DecodeMemory {
  int levels;    // uint32 [kLevelTableWords][32]
  int row;       // float [columns][dim + 8]: query rows, then rows of the output
  int bytes;     // int8 [columns][2][dim]: low and high bytes of 16-bit queries; in a wide kernel
                 // as WideQueryByte has them
  int columns;   // Column [columns]
  int states;    // float2 [warps][columns of a warp]: m and l of parts
  int exchange;  // WideExchange [runs], in a wide kernel
  int runs;      // WideRun [runs], in a wide kernel
  int ring;      // [rings][stages][stage_bytes], then parts of outputs
  int size;
};
struct Column {
  float scale;       // of its 16-bit values
  int32_t sum;       // of them
  int32_t position;  // of its query, -1: none
};
constexpr int kRowPad = 8;  // floats: rows of a fragment's lanes fall into different banks

inline constexpr int kMatrixBytes = 128;  // 8 columns by 16 bytes: an operand in shared memory

// What the warps of a wide kernel's step tell each other (wide_step.cuh).
struct alignas(8) WideColumn {
  float scale;    // as in Column
  float minus_m;  // m: what sums are relative to
};
template <int kSets>
struct WideExchange {
  static constexpr int kMatrices = WideStepTokens(false) / 16;
  std::byte weights[kSets][kMatrices][kMatrixBytes];
  float largest[kWideWarps][kSets * 4];
  WideColumn columns[kSets * 4];
  float references[2][kSets * 4];  // q . r of the page of even and odd steps, as scores
};
inline constexpr int kWideExchangeBytes = sizeof(WideExchange<WideSets(128)>);

// Where byte `dim` of a query row's low (0) or high (1) bytes lies in a wide kernel: columns of
// keys' products, whose 16-byte pieces hold four dims of each of a token's four lanes.
template <int kDim>
constexpr int WideQueryByte(int row, int high, int dim) {
  const int t = dim / (kDim / 4), in_lane = dim % (kDim / 4), column = 2 * row + high;
  return (column / 8 * (kDim / 16) + in_lane / 4) * kMatrixBytes + column % 8 * 16 + 4 * t +
         in_lane % 4;
}

inline constexpr int kWideRunBytes = 128;  // wide_run.cuh

inline constexpr int kStages = 2;  // of a ring

constexpr DecodeMemory MakeDecodeMemory(int dim, int sets, int columns, int warps,
                                        int stage_bytes) {
  const auto align = [](int n) { return (n + 127) / 128 * 128; };
  const bool wide = IsWide(dim, sets);
  const int rings = wide ? warps / kWideWarps : warps;
  const int runs = wide ? kMostWideRuns : 0;  // so that only the size depends on `warps`
  if (wide) warps = kMostDecodeWarps;
  DecodeMemory m = {};
  m.row = m.levels + kLevelTableWords * 128;
  m.bytes = m.row + align(columns * (dim + kRowPad) * 4);
  m.columns = m.bytes + align(columns * 2 * dim);
  m.states = m.columns + align(columns * static_cast<int>(sizeof(Column)));
  m.exchange = m.states + align(warps * sets * 4 * 8);
  m.runs = m.exchange + align(runs * kWideExchangeBytes);
  m.ring = m.runs + runs * kWideRunBytes;
  m.size = m.ring + rings * kStages * stage_bytes;
  return m;
}

// Of a kernel that merges heads (merge_heads.cuh): its threads, and the bytes of its parts.
inline constexpr int kMergeThreads = 128;
constexpr int MergeBytes(int dim) { return kMergeThreads / 32 * (dim * 4 + 8) + dim * 4; }

}  // namespace tq::cuda
