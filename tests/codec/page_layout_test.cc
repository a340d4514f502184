// SPDX-License-Identifier: Apache-2.0
#include "turboquant/codec/page_layout.h"

#include <gtest/gtest.h>

#include <vector>

#include "turboquant/base/error.h"
#include "turboquant/codec/unit_bits.h"

namespace tq {
namespace {

// Every (token, dim) of a page has its own bits, and every bit of the tiles is someone's.
TEST(PageLayout, PlacesAreABijection) {
  for (int head_dim : kHeadDims) {
    const TileLayout layout = MakeTileLayout(head_dim);
    EXPECT_EQ(layout.units * 32 * kUnitCodes, head_dim * layout.tokens);
    for (auto place_of : {PlaceOfKey, PlaceOfValue}) {
      std::vector<int> seen(static_cast<size_t>(head_dim) * kPageTokens);
      for (int token = 0; token < kPageTokens; ++token) {
        for (int dim = 0; dim < head_dim; ++dim) {
          const CodePlace p = place_of(layout, token, dim);
          ASSERT_TRUE(p.tile >= 0 && p.tile < layout.tiles_per_page());
          ASSERT_TRUE(p.lane >= 0 && p.lane < 32 && p.unit >= 0 && p.unit < layout.units);
          ASSERT_TRUE(p.index >= 0 && p.index < kUnitCodes);
          ++seen[static_cast<size_t>(((p.tile * 32 + p.lane) * layout.units + p.unit) * kUnitCodes +
                                     p.index)];
        }
      }
      for (int count : seen) ASSERT_EQ(count, 1) << head_dim;
    }
  }
}

TEST(PageLayout, WordsTileTheSideExactly) {
  for (int head_dim : kHeadDims) {
    const TileLayout layout = MakeTileLayout(head_dim);
    for (int bits : {2, 3, 4, 8}) {
      std::vector<int> seen(static_cast<size_t>(layout.side_bytes(bits)) / 4);
      for (int lane = 0; lane < 32; ++lane) {
        for (int unit = 0; unit < layout.units; ++unit) {
          for (int word = 0; word < bits; ++word) {
            const uint32_t offset = WordOffset(layout, bits, lane, unit, word);
            ASSERT_EQ(offset % 4, 0u);
            ASSERT_LT(offset / 4, seen.size());
            ++seen[offset / 4];
          }
        }
      }
      for (int count : seen) ASSERT_EQ(count, 1) << head_dim << " " << bits;
    }
  }
}

TEST(PageLayout, ScalesAreABijection) {
  for (int tokens : {32, 64, 128}) {
    std::vector<int> seen(static_cast<size_t>(tokens) * 2);
    for (int token = 0; token < tokens; ++token) {
      ++seen.at(KeyScaleOffset(token) / 2);
      ++seen.at(ValueScaleOffset(token) / 2);
    }
    for (int count : seen) EXPECT_EQ(count, 1);
  }
  EXPECT_EQ(KeyScaleOffset(8), 2u);
  EXPECT_EQ(ValueScaleOffset(1), 24u);
}

TEST(PageLayout, FragmentOrderOf128) {
  const TileLayout layout = MakeTileLayout(128);
  const CodePlace key = PlaceOfKey(layout, 32 + 19, 70);  // g = 3, t = 2, third token of the lane
  EXPECT_EQ(key.tile, 1);
  EXPECT_EQ(key.lane, 4 * 3 + 2);
  EXPECT_EQ(key.unit, 2);
  EXPECT_EQ(key.index, 6);
  const CodePlace value = PlaceOfValue(layout, 16 + 11, 16 * 5 + 12);  // row 11 = 2t + 9, t = 1
  EXPECT_EQ(value.lane, 4 * 4 + 1);
  EXPECT_EQ(value.unit, 2);
  EXPECT_EQ(value.index, 16 + 4 * 3 + 3);
}

TEST(PageLayout, SizesOfKnownPages) {
  const PageLayout open = MakePageLayout(128, 8, Codec::kTurbo8, Codec::kTurbo8);
  EXPECT_EQ(open.head_bytes, 256u + 4 * (4096 + 4096 + 128));
  const PageLayout sealed = MakePageLayout(128, 8, Codec::kTurbo4, Codec::kTurbo3);
  EXPECT_EQ(sealed.head_bytes, 256u + 4 * (2048 + 1536 + 128));
  EXPECT_EQ(sealed.bytes(), sealed.head_bytes * 8);
  const PageLayout rows = MakePageLayout(100, 2, Codec::kF16, Codec::kF32);
  EXPECT_EQ(rows.k_row_bytes, 200u);
  EXPECT_EQ(rows.v_rows_offset, 128u * 200);
  EXPECT_EQ(rows.tile_bytes, 0u);
  for (int head_dim : kHeadDims) {
    for (const CodecInfo& k : kCodecs) {
      for (const CodecInfo& v : kCodecs) {
        if (head_dim % 32 != 0 && (k.codec == Codec::kQ8_0 || k.codec == Codec::kQ4_0 ||
                                   v.codec == Codec::kQ8_0 || v.codec == Codec::kQ4_0)) {
          continue;
        }
        const PageLayout layout = MakePageLayout(head_dim, 1, k.codec, v.codec);
        EXPECT_EQ(layout.head_bytes % 64, 0u);
        EXPECT_EQ(layout.tiles_offset % 64, 0u);
        EXPECT_EQ(layout.tile_bytes % 64, 0u);
      }
    }
  }
}

TEST(PageLayout, RefusesWhatDoesNotExist) {
  EXPECT_THROW(MakePageLayout(72, 1, Codec::kTurbo8, Codec::kF16), Error);
  EXPECT_THROW(MakePageLayout(72, 1, Codec::kF16, Codec::kQ8_0), Error);
  EXPECT_THROW(MakePageLayout(0, 1, Codec::kF16, Codec::kF16), Error);
  EXPECT_NO_THROW(MakePageLayout(160, 1, Codec::kQ4_0, Codec::kQ8_0));
}

TEST(UnitBits, EveryBitOfAUnitBelongsToOneCode) {
  for (int bits : {2, 3, 4, 8}) {
    uint32_t all[8] = {};
    for (int n = 0; n < kUnitCodes; ++n) {
      for (int b = 0; b < bits; ++b) {
        uint32_t words[8] = {};
        SetUnitCode(bits, words, n, 1u << b);
        EXPECT_EQ(GetUnitCode(bits, words, n), 1u << b);
        for (int w = 0; w < bits; ++w) {
          EXPECT_EQ(all[w] & words[w], 0u);
          all[w] |= words[w];
        }
      }
    }
    for (int w = 0; w < bits; ++w) EXPECT_EQ(all[w], 0xffffffffu);
  }
}

TEST(Codec, NamesAndAliases) {
  for (const CodecInfo& info : kCodecs) {
    EXPECT_EQ(ParseCodec(info.name), info.codec);
    EXPECT_EQ(InfoOf(info.codec).name, info.name);
  }
  EXPECT_EQ(ParseCodec("tbq3"), Codec::kTurbo3);
  EXPECT_EQ(CodecNames(),
            "f32, f16, bf16, q8_0, q4_0, turbo8, turbo4, turbo3, turbo2, turbo4_tcq, turbo3_tcq, "
            "turbo2_tcq");
  for (const char* bad : {"", " ", "turbo", "turbo5", "F16"}) {
    try {
      ParseCodec(bad);
      FAIL() << bad;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_NE(std::string(error.what()).find("turbo3"), std::string::npos);
    }
  }
  EXPECT_DOUBLE_EQ(BitsPerValue(Codec::kTurbo3, 128), 3.125);
  EXPECT_DOUBLE_EQ(BitsPerValue(Codec::kQ8_0, 64), 8.5);
}

}  // namespace
}  // namespace tq
