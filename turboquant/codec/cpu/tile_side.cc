// SPDX-License-Identifier: Apache-2.0
#include "turboquant/codec/cpu/tile_side.h"

namespace tq {

TileSide SideOf(const PageLayout& layout, Side side) {
  const bool keys = side == Side::kKey;
  TileSide s = {};
  s.tile = layout.tile;
  s.side = side;
  s.codec = keys ? layout.k : layout.v;
  s.row_bytes = keys ? layout.k_row_bytes : layout.v_row_bytes;
  s.rows_offset = keys ? layout.k_rows_offset : layout.v_rows_offset;
  s.rows = s.row_bytes != 0;
  for (const CodecInfo& info : kCodecs) {
    if (info.codec != s.codec) continue;
    s.bits = info.bits;
    s.trellis = info.trellis;
  }
  s.codes_offset = layout.tiles_offset + (keys ? layout.tile_k_offset : layout.tile_v_offset);
  s.scales_offset = layout.tiles_offset + layout.tile_scale_offset;
  s.tile_bytes = layout.tile_bytes;
  return s;
}

}  // namespace tq
