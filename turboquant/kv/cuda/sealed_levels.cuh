// SPDX-License-Identifier: Apache-2.0
// Codes of sealed pages back to levels, for pages that are sealed again at fewer bits: one byte per
// value, which an open page's code is already.
#pragma once

#include "turboquant/codec/cuda/page_ops.cuh"
#include "turboquant/codec/cuda/tile_codecs.cuh"
#include "turboquant/codec/cuda/tile_places.h"

namespace tq::cuda {

// What a level has more than its byte: 4-bit levels are half-integers.
TQ_DEVICE float LevelRest(const TileSide& s) { return s.bits == 4 && !s.trellis ? 0.5f : 0.0f; }

// A level byte as a value under its scale, rounded once: `rest` is added exactly.
TQ_DEVICE float ValueOfLevel(int8_t level, float rest, float scale) {
  return MulRn(AddRn(SmallToFloat(level), rest), scale);
}

// Tiles [first_tile, first_tile + tiles) of one side to rows of level bytes, `stride` bytes apart
// (a multiple of four), by all threads of a block.
TQ_DEVICE void UnpackLevels(const TileSide& s, const std::byte* head, int first_tile, int tiles,
                            int8_t* rows, int stride) {
  const TileLayout& layout = s.tile;
  WithTileCodec(s.codec, [&](auto codec) {
    using C = decltype(codec);
    constexpr uint32_t kSign = C::kKind == LevelKind::kUnsigned ? 0x80808080u : 0u;
    LevelTables tables;
#pragma unroll
    for (int i = 0; i < C::kTables; ++i) tables.t[i] = LevelTableWordAt(C::kTable + i);
    for (int i = ThreadId(); i < tiles * 32 * layout.units; i += Threads()) {
      CodePlace place = {i / (32 * layout.units), i % 32, i / 32 % layout.units, 0};
      const std::byte* codes = head + s.CodesOffset(first_tile + place.tile);
      uint32_t words[C::kWords], levels[8];
#pragma unroll
      for (int w = 0; w < C::kWords; ++w) {
        words[w] = *reinterpret_cast<const uint32_t*>(
            codes + WordOffset(layout, C::kWords, place.lane, place.unit, w));
      }
      C::Unpack(words, levels, tables);
      if (s.side == Side::kKey) {  // four dims a word
#pragma unroll
        for (int n = 0; n < kUnitCodes; n += 4) {
          place.index = n;
          const TokenDim at = KeyAt(layout, place);
          *reinterpret_cast<uint32_t*>(rows + at.token * stride + at.dim) = levels[n / 4] ^ kSign;
        }
        continue;
      }
#pragma unroll
      for (int n = 0; n < kUnitCodes; ++n) {
        place.index = n;
        const TokenDim at = ValueAt(layout, place);
        rows[at.token * stride + at.dim] =
            static_cast<int8_t>((levels[n / 4] ^ kSign) >> (8 * (n % 4)));
      }
    }
  });
}

}  // namespace tq::cuda
