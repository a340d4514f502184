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

}  // namespace tq
