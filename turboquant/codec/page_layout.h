// SPDX-License-Identifier: Apache-2.0
// Where everything lies in a page: 128 tokens of all KV heads of one layer. Plain data, computed by
// constexpr functions; kernels, tests and docs/format.md iterate over the same table.
// docs/format.md draws the bytes.
#pragma once

#include <cstdint>

#include "turboquant/codec/codec.h"

namespace tq {

inline constexpr int kPageTokens = 128;
inline constexpr int kUnitCodes = 32;  // codes of one unit: one lane's W words

// The tile shape of a head dim. Lane = 4 g + t, g 0..7, t 0..3 (tensor-core fragment order).
struct TileLayout {
  int head_dim;
  int tokens;       // 32, 64 or 128
  int piece_bytes;  // a lane's contiguous bytes: 16 (8 for D = 80 and 112); storage is [piece][32
                    // lanes][piece_bytes]
  int units;        // units of 32 codes per lane and side

  constexpr int tiles_per_page() const { return kPageTokens / tokens; }
  constexpr int side_bytes(int bits) const {
    return 32 * units * bits * 4;
  }  // codes of one side; W = bits words per unit
  constexpr int scale_bytes() const { return tokens / 32 * 128; }  // f16 scales of K and V
};

constexpr TileLayout MakeTileLayout(int head_dim) {
  const int tokens = (head_dim == 80 || head_dim == 96 || head_dim == 112) ? 128
                     : (head_dim == 64 || head_dim == 192)                 ? 64
                                                                           : 32;
  const int piece = (head_dim == 80 || head_dim == 112) ? 8 : 16;
  return {head_dim, tokens, piece, head_dim * tokens / (32 * kUnitCodes)};
}

// A page of one layer is kv_heads blocks of head_bytes. One block, in order, each part present only
// if needed:
//   reference r: D x f16 (K in tiles) | tiles_per_page x [K codes][V codes][scales] (sides in
//   tiles; scales if either is) | K rows [128][row bytes] (K in rows) | V rows [128][row bytes] (V
//   in rows).  head_bytes is a multiple of 64.
struct PageLayout {
  TileLayout tile;
  Codec k;
  Codec v;
  int head_dim;
  int kv_heads;
  uint32_t reference_offset;  // within a head block
  uint32_t tiles_offset;      // first tile
  uint32_t tile_bytes;        // stride of tiles; 0 if neither side is in tiles
  uint32_t tile_k_offset;     // within a tile
  uint32_t tile_v_offset;
  uint32_t tile_scale_offset;
  uint32_t k_rows_offset;  // within a head block; rows of k_row_bytes
  uint32_t v_rows_offset;
  uint32_t k_row_bytes;  // 0 if the side is in tiles
  uint32_t v_row_bytes;
  uint32_t head_bytes;
  uint32_t bytes() const { return head_bytes * static_cast<uint32_t>(kv_heads); }
};

// Throws kUnsupported if head_dim is not in kHeadDims and a side is in tiles, or not a multiple of
// 32 for q8_0 / q4_0.
PageLayout MakePageLayout(int head_dim, int kv_heads, Codec k, Codec v);

// Where code `dim` of `token` (0..127 in the page) lies, by the definition of packed tiles: tile,
// lane, unit and index in the unit. The slow, exact statement of the format: reference kernels,
// goldens and tests use it, fast kernels do not.
struct CodePlace {
  int tile, lane, unit, index;
};
constexpr CodePlace PlaceOfKey(const TileLayout& layout, int token, int dim) {
  // Lane (g, t) owns the dims [t D/4, (t + 1) D/4) of the tokens congruent to g mod 8, token-major.
  const int dims = layout.head_dim / 4;
  const int in_tile = token % layout.tokens;
  const int position = in_tile / 8 * dims + dim % dims;
  return {token / layout.tokens, 4 * (in_tile % 8) + dim / dims, position / kUnitCodes,
          position % kUnitCodes};
}

constexpr CodePlace PlaceOfValue(const TileLayout& layout, int token, int dim) {
  // Row of V^T within an m-tile of 16 dims: g and the low bit of element e. Column: 32 tokens, of
  // which k = 4 t + b + 16 (e >> 1) addresses {2t, 2t + 8, 2t + 1, 2t + 9}[b] + 16 (e >> 1).
  const int in_tile = token % layout.tokens;
  const int row = in_tile % 16;
  const int t = row % 8 / 2;
  const int b = row % 2 * 2 + row / 8;
  const int g = dim % 8;
  const int e = dim % 16 / 8 + in_tile % 32 / 16 * 2;
  const int m_tile = dim / 16 * (layout.tokens / 32) + in_tile / 32;
  return {token / layout.tokens, 4 * g + t, m_tile / 2, m_tile % 2 * 16 + 4 * e + b};
}

// Byte offset, within one side's codes of a tile, of word `word` of `unit` of `lane` (W = bits
// words per unit).
constexpr uint32_t WordOffset(const TileLayout& layout, int bits, int lane, int unit, int word) {
  const int byte = (unit * bits + word) * 4;  // in the lane's own stream
  const int piece = byte / layout.piece_bytes;
  return static_cast<uint32_t>((piece * 32 + lane) * layout.piece_bytes +
                               byte % layout.piece_bytes);
}

namespace internal {
// 32 tokens take 128 bytes: for each g the f16 scales K(g, g+8, g+16, g+24), V(the same).
constexpr uint32_t ScaleOffset(int token, int side) {
  return static_cast<uint32_t>(token / 32 * 128 + token % 8 * 16 + side * 8 + token % 32 / 8 * 2);
}

}  // namespace internal

// Byte offset within a tile's scales.
constexpr uint32_t KeyScaleOffset(int token_in_tile) {
  return internal::ScaleOffset(token_in_tile, 0);
}
constexpr uint32_t ValueScaleOffset(int token_in_tile) {
  return internal::ScaleOffset(token_in_tile, 1);
}

}  // namespace tq
