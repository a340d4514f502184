// SPDX-License-Identifier: Apache-2.0
#include "turboquant/codec/page_layout.h"

#include <algorithm>

#include "turboquant/base/error.h"

namespace tq {
namespace {

constexpr uint32_t kAlignment = 64;  // of the tiles and of head blocks: a cache line

constexpr uint32_t AlignUp(uint32_t n) { return (n + kAlignment - 1) / kAlignment * kAlignment; }

void CheckSide(const CodecInfo& info, int head_dim) {
  if (info.tiles && std::find(kHeadDims.begin(), kHeadDims.end(), head_dim) == kHeadDims.end()) {
    std::string dims;
    for (int dim : kHeadDims) dims += (dims.empty() ? "" : ", ") + std::to_string(dim);
    Throw(ErrorCode::kUnsupported,
          "cache type {} has no tile layout for head dim {} (it has: {}); use f16 for this model",
          info.name, head_dim, dims);
  }
  const bool blocks = info.codec == Codec::kQ8_0 || info.codec == Codec::kQ4_0;
  if (blocks && head_dim % 32 != 0) {
    Throw(ErrorCode::kUnsupported,
          "cache type {} needs a head dim that is a multiple of 32, not {}; use f16 for this model",
          info.name, head_dim);
  }
}

// Bytes of one token's row; 0 for codecs in tiles.
uint32_t RowBytes(const CodecInfo& info, int head_dim) {
  const auto dim = static_cast<uint32_t>(head_dim);
  switch (info.codec) {
    case Codec::kF32:
      return dim * 4;
    case Codec::kF16:
    case Codec::kBf16:
      return dim * 2;
    case Codec::kQ8_0:
      return dim / 32 * (2 + 32);
    case Codec::kQ4_0:
      return dim / 32 * (2 + 16);
    default:
      return 0;
  }
}

}  // namespace

PageLayout MakePageLayout(int head_dim, int kv_heads, Codec k, Codec v) {
  const CodecInfo& k_info = InfoOf(k);
  const CodecInfo& v_info = InfoOf(v);
  if (head_dim <= 0 || kv_heads <= 0) {
    Throw(ErrorCode::kInvalidArgument,
          "a page needs a positive head dim and number of KV heads, not {} and {}", head_dim,
          kv_heads);
  }
  CheckSide(k_info, head_dim);
  CheckSide(v_info, head_dim);

  PageLayout layout = {};
  layout.k = k;
  layout.v = v;
  layout.head_dim = head_dim;
  layout.kv_heads = kv_heads;
  uint32_t offset = 0;
  if (k_info.tiles) offset = AlignUp(static_cast<uint32_t>(head_dim) * 2);  // after r
  layout.tiles_offset = offset;
  if (k_info.tiles || v_info.tiles) {
    const TileLayout tile = layout.tile = MakeTileLayout(head_dim);
    layout.tile_v_offset = k_info.tiles ? static_cast<uint32_t>(tile.side_bytes(k_info.bits)) : 0;
    layout.tile_scale_offset =
        layout.tile_v_offset +
        (v_info.tiles ? static_cast<uint32_t>(tile.side_bytes(v_info.bits)) : 0);
    layout.tile_bytes = layout.tile_scale_offset + static_cast<uint32_t>(tile.scale_bytes());
    offset += layout.tile_bytes * static_cast<uint32_t>(tile.tiles_per_page());
  }
  layout.k_row_bytes = RowBytes(k_info, head_dim);
  layout.v_row_bytes = RowBytes(v_info, head_dim);
  layout.k_rows_offset = offset;
  layout.v_rows_offset = offset + layout.k_row_bytes * kPageTokens;
  layout.head_bytes = AlignUp(layout.v_rows_offset + layout.v_row_bytes * kPageTokens);
  return layout;
}

CodePlace PlaceOfKey(const TileLayout& layout, int token, int dim) {
  // Lane (g, t) owns the dims [t D/4, (t + 1) D/4) of the tokens congruent to g mod 8, token-major.
  const int dims = layout.head_dim / 4;
  const int in_tile = token % layout.tokens;
  const int position = in_tile / 8 * dims + dim % dims;
  return {token / layout.tokens, 4 * (in_tile % 8) + dim / dims, position / kUnitCodes,
          position % kUnitCodes};
}

CodePlace PlaceOfValue(const TileLayout& layout, int token, int dim) {
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

uint32_t WordOffset(const TileLayout& layout, int bits, int lane, int unit, int word) {
  const int byte = (unit * bits + word) * 4;  // in the lane's own stream
  const int piece = byte / layout.piece_bytes;
  return static_cast<uint32_t>((piece * 32 + lane) * layout.piece_bytes +
                               byte % layout.piece_bytes);
}

namespace {

// 32 tokens take 128 bytes: for each g the f16 scales K(g, g+8, g+16, g+24), V(the same).
uint32_t ScaleOffset(int token, int side) {
  return static_cast<uint32_t>(token / 32 * 128 + token % 8 * 16 + side * 8 + token % 32 / 8 * 2);
}

}  // namespace

uint32_t KeyScaleOffset(int token_in_tile) { return ScaleOffset(token_in_tile, 0); }
uint32_t ValueScaleOffset(int token_in_tile) { return ScaleOffset(token_in_tile, 1); }

}  // namespace tq
