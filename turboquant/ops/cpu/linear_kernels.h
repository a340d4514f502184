// SPDX-License-Identifier: Apache-2.0
// Kernels of ops/linear.h, one table per instruction set. Weights: ops/packed_layouts.h. A *tile*
// is up to 16 tokens (1, 2, 4, 8 or 16; missing ones are zero) laid beside each other.
#pragma once

#include <cstdint>

#include "turboquant/ops/packed_layouts.h"

namespace tq {

inline constexpr int kNumTileSizes = 5;
inline constexpr int kMaxTile = 16;
constexpr int TileSize(int index) { return 1 << index; }
constexpr int TileIndexFor(int64_t tokens) {
  return tokens >= 9 ? 4 : tokens >= 5 ? 3 : tokens >= 3 ? 2 : tokens == 2 ? 1 : 0;
}

// Tokens at 8 bits: per group of 32 columns and tile of T tokens one record
//   int8 codes [T][32], f32 scale [T], f32 sum [T] (scale * sum of codes), int32 minus_sum [T],
//   int32 minus_sum16 [2][T]
// with x = scale * code, scale = largest magnitude of the group / 127.
inline constexpr int64_t kTokenGroupBytes = 32 + 4 + 4 + 4 + 8;

// Many tokens: the product has to run at the speed of the integer dot product alone, so both sides
// get one scale per *block* of 256 columns. The panel is requantised to 8 bits, a piece at a time
// that stays in the cache, which adds an error of the size of the tokens' own; there is no second
// copy of the weights. Dense record of a block, 16 rows or tokens:
//   codes [columns / 4][16][4] (64 bytes per 4 columns; rows uint8, 128 + code; tokens int8),
//   padded to 256 columns; f32 scale [16]; int32 start [16] (tokens only: -128 * sum of codes)
inline constexpr int kDenseColumns = 256;
inline constexpr int64_t kDenseCodeBytes = kDenseColumns * 16;
inline constexpr int64_t kDenseBytes = kDenseCodeBytes + 2 * 64;

// out[t][r] (+)= sum over columns, for one panel and one tile. Strides in floats.
struct PanelCall {
  const uint8_t* w;  // of the panel, record of the first column
  int64_t groups;    // of 32 columns; a multiple of 8 in layouts with super-blocks
  const uint8_t* x;  // records of the tile, at the first column
  float* out;
  int64_t out_stride;
  int rows, tokens;   // valid ones
  const float* bias;  // [rows] or null
  bool accumulate;    // out += instead of out =
};

// The same over dense records of `columns` columns: w [blocks], x [blocks].
struct DenseCall {
  const uint8_t* w;
  const uint8_t* x;
  int64_t columns;
  float* out;
  int64_t out_stride;
  int rows, tokens;
  const float* bias;
  bool accumulate;
};

// The same over a dequantised panel: w [columns][16], x [columns][T].
struct FloatCall {
  const float* w;
  const float* x;
  int64_t columns;
  float* out;
  int64_t out_stride;
  int rows, tokens;
  const float* bias;
  bool accumulate;
};

struct LinearKernels {
  void (*quantize_tile)(const float* x, int64_t stride, int tokens, int tile, int64_t groups,
                        uint8_t* records) noexcept;
  // [layout][tile]; null for float layouts.
  void (*int8_panel[kNumPackedLayouts][kNumTileSizes])(const PanelCall& call) noexcept;
  // Columns of a panel as f32, out [columns][16]. w: of the panel, at the first column; columns:
  // whole records.
  void (*dequantize[kNumPackedLayouts])(const uint8_t* w, int64_t columns, float* out) noexcept;
  void (*float_panel[kNumTileSizes])(const FloatCall& call) noexcept;
  // Dense records, columns: a multiple of 32. Null where the instruction set has no dot product
  // of full 8-bit values: int8_panel serves many tokens too.
  void (*quantize_dense)(const float* x, int64_t stride, int tokens, int64_t columns,
                         uint8_t* records) noexcept;
  void (*requantize[kNumPackedLayouts])(const uint8_t* w, int64_t columns,
                                        uint8_t* records) noexcept;
  void (*dense_panel)(const DenseCall& call) noexcept;
};

namespace scalar {
extern const LinearKernels kLinearKernels;
}
namespace avx2 {
extern const LinearKernels kLinearKernels;
}
namespace avx512 {
extern const LinearKernels kLinearKernels;
}

}  // namespace tq
