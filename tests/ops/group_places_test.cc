// SPDX-License-Identifier: Apache-2.0
// The index arithmetic of the GPU's weight kernels, lane by lane on the host, against the packer's.
#include "turboquant/ops/cuda/group_places.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "turboquant/base/random.h"
#include "turboquant/ops/packed_panels.h"
#include "turboquant/ops/random_panels.h"

namespace tq {
namespace {

template <int kIndex>
void CheckLayout() {
  using L = cuda::LayoutOf<kIndex>;
  if constexpr (L::kQuantised) {
    Random random(kIndex + 1);
    std::vector<uint8_t> group(static_cast<size_t>(L::kGroupBytes));
    for (uint8_t& byte : group) byte = static_cast<uint8_t>(random.Next());
    for (int lane = 0; lane < 32; ++lane) {
      const int t = lane & 3;
      for (int i = 0; i < 2; ++i) {
        const int row = (lane >> 2) + 8 * i;
        cuda::PlaneWords<L> planes;
        for (int p = 0; p < cuda::PlaneWords<L>::kCount; ++p) {
          const int offset = cuda::PlaneOffset<L>(p, row, t);
          ASSERT_LE(offset + 4, L::kGroupBytes) << L::kLayout.name;
          std::memcpy(&planes.word[p], group.data() + offset, 4);
        }
        const cuda::CodeWordPair codes = cuda::CodeWords<L>(planes, t);
        uint8_t want[kGroupColumns];
        LoadGroupCodes(L::kLayout, group.data(), row, want);
        for (int j = 0; j < 4; ++j) {
          EXPECT_EQ(codes.low >> (8 * j) & 255u, want[4 * t + j])
              << L::kLayout.name << " lane " << lane << " row " << row << " byte " << j;
          EXPECT_EQ(codes.high >> (8 * j) & 255u, want[16 + 4 * t + j])
              << L::kLayout.name << " lane " << lane << " row " << row << " byte " << j;
        }
      }
    }
  }
  if constexpr (kIndex + 1 < kNumPackedLayouts) CheckLayout<kIndex + 1>();
}

TEST(GroupPlaces, LanesHoldTheCodesOfTheirRowsAndColumns) { CheckLayout<0>(); }

// Scale fields: a panel with one field set decodes to values in its row and columns alone.
template <int kIndex>
void CheckScales() {
  using L = cuda::LayoutOf<kIndex>;
  if constexpr (L::kSuper) {
    PackedPanels panel(kIndex, kPanelRows, kSuperColumns);
    const PackedLayout& layout = panel.layout();
    uint8_t* record = panel.mutable_panel(0);
    for (int row = 0; row < kPanelRows; ++row) {
      const uint16_t one = 0x3c00;
      std::memcpy(record + 2 * row, &one, 2);
      uint8_t codes[kGroupColumns];
      std::memset(codes, layout.table ? 15 : layout.zero + 1, sizeof codes);
      for (int g = 0; g < kGroupsPerSuper; ++g) {
        StoreGroupCodes(layout, codes, row, record + L::kScaleBytes + g * L::kGroupBytes);
        for (int half = 0; half < 2; ++half) {
          const int fine = 1 + (row + 2 * g + half * (L::k16 ? 5 : 0)) % 15;
          record[cuda::FineScaleOffset<L>(row, g, half)] = static_cast<uint8_t>(fine);
        }
      }
    }
    for (int row = 0; row < kPanelRows; ++row) {
      float values[kSuperColumns];
      panel.DecodeRow(row, values);
      for (int c = 0; c < kSuperColumns; ++c) {
        const int half = c % 32 / 16,
                  fine = 1 + (row + 2 * (c / 32) + half * (L::k16 ? 5 : 0)) % 15;
        EXPECT_EQ(values[c], static_cast<float>(fine * (layout.table ? 113 : 1)))
            << layout.name << " row " << row << " column " << c;
      }
    }
  }
  if constexpr (kIndex + 1 < kNumPackedLayouts) CheckScales<kIndex + 1>();
}

TEST(GroupPlaces, FineScalesLieWhereThePackerPutsThem) { CheckScales<0>(); }

TEST(RandomPanels, AreWeightsOfTheSizeThatWasMeant) {
  const int64_t cols = 512;
  PackedPanels panel(kRandomLayout, kPanelRows, cols);
  const auto words = static_cast<uint64_t>(panel.panel_bytes() / 4);
  for (uint64_t i = 0; i < words; ++i) {
    const uint32_t word = RandomPanelWord(1, i, 0x2c00);  // 1/16
    std::memcpy(panel.mutable_panel(0) + 4 * i, &word, 4);
  }
  double sum = 0, squares = 0;
  std::vector<float> row(cols);
  for (int r = 0; r < kPanelRows; ++r) {
    panel.DecodeRow(r, row.data());
    for (const float value : row) sum += value, squares += static_cast<double>(value) * value;
  }
  const double count = static_cast<double>(kPanelRows * cols);
  EXPECT_NEAR(sum / count, -0.5 / 16, 0.02);
  EXPECT_NEAR(squares / count, 21.5 / 256, 0.005);
}

}  // namespace
}  // namespace tq
