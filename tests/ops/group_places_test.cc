// SPDX-License-Identifier: Apache-2.0
// The index arithmetic of the GPU's weight kernels, lane by lane on the host, against the packer's.
#include "turboquant/ops/cuda/group_places.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "tests/ops/random_blocks.h"
#include "turboquant/base/half.h"
#include "turboquant/base/random.h"
#include "turboquant/gguf/block_layouts.h"
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

// A whole panel, value by value, as the lanes decode it.
template <int kIndex>
void CheckValues() {
  using L = cuda::LayoutOf<kIndex>;
  if constexpr (L::kQuantised) {
    const RandomTensor tensor = MakeRandomTensor(L::kFormat, kPanelRows, 512, kIndex + 1);
    const ThreadPool pool(1);
    const auto packed = PackedWeight::Pack(tensor.tensor, pool);
    const uint8_t* panel = static_cast<const PackedPanels&>(*packed).panel(0);
    const auto load = [](const auto* p) { return *p; };
    float want[kPanelRows][512];
    for (int row = 0; row < kPanelRows; ++row) packed->DecodeRow(row, want[row]);
    for (int group = 0; group < 512 / kGroupColumns; ++group) {
      const uint8_t* record = panel + group / L::kGroupsPerRecord * L::kRecordBytes;
      const int in_record = group % L::kGroupsPerRecord;
      const uint8_t* codes = record + L::kScaleBytes + in_record * L::kGroupBytes;
      for (int row = 0; row < kPanelRows; ++row) {
        const cuda::GroupScale scale =
            cuda::ScaleOf<L>(cuda::LoadScaleBytes<L>(record, in_record, row, load), HalfToFloat);
        for (int t = 0; t < 4; ++t) {
          cuda::PlaneWords<L> planes;
          for (int p = 0; p < cuda::PlaneWords<L>::kCount; ++p)
            std::memcpy(&planes.word[p], codes + cuda::PlaneOffset<L>(p, row, t), 4);
          const cuda::CodeWordPair words = cuda::CodeWords<L>(planes, t);
          for (int j = 0; j < 8; ++j) {
            const uint32_t word = j < 4 ? words.low : words.high;
            int code = static_cast<int>(word >> (8 * (j % 4)) & 255u);
            if (L::kBits == 8) code -= 128;
            if (L::kTable) code = kIq4Values[code];
            const float value =
                scale.scale[j / 4] * static_cast<float>(code - L::kZero) + scale.offset[j / 4];
            const int column = group * kGroupColumns + j / 4 * 16 + 4 * t + j % 4;
            ASSERT_NEAR(value, want[row][column], 1e-5 * (1 + std::abs(want[row][column])))
                << L::kLayout.name << " row " << row << " column " << column;
          }
        }
      }
    }
  }
  if constexpr (kIndex + 1 < kNumPackedLayouts) CheckValues<kIndex + 1>();
}

TEST(GroupPlaces, LanesDecodeWhatThePackerPacked) { CheckValues<0>(); }

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
