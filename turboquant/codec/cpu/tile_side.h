// SPDX-License-Identifier: Apache-2.0
// One side (K or V) of a head block in tiles: where its codes, scales and reference are.
#pragma once

#include "turboquant/codec/page_layout.h"
#include "turboquant/codec/transform.h"

namespace tq {

struct TileSide {
  TileLayout tile;
  Side side;
  Codec codec;
  int bits;
  bool trellis;
  bool rows;               // not in tiles at all: nothing below means anything
  uint32_t codes_offset;   // of tile 0, within the head block
  uint32_t scales_offset;  // of tile 0
  uint32_t tile_bytes;
  uint32_t rows_offset;
  uint32_t row_bytes;

  constexpr uint32_t CodesOffset(int tile_index) const {
    return codes_offset + static_cast<uint32_t>(tile_index) * tile_bytes;
  }
  // The 128 scale bytes of 32 tokens start here for `token` = their first.
  constexpr uint32_t ScaleOffset(int token) const {
    const int in_tile = token % tile.tokens;
    return scales_offset + static_cast<uint32_t>(token / tile.tokens) * tile_bytes +
           (side == Side::kKey ? KeyScaleOffset(in_tile) : ValueScaleOffset(in_tile));
  }
  // The slot that the other side's scale of the same token has.
  constexpr uint32_t OtherScaleOffset(int token) const {
    return side == Side::kKey ? ScaleOffset(token) + 8 : ScaleOffset(token) - 8;
  }
};

TileSide SideOf(const PageLayout& layout, Side side);

}  // namespace tq
