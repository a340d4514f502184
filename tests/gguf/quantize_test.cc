// SPDX-License-Identifier: Apache-2.0
#include "turboquant/gguf/quantize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "turboquant/base/error.h"
#include "turboquant/base/random.h"
#include "turboquant/gguf/dequantize.h"

namespace tq {
namespace {

// Half a step of a block whose values span [-a, a], in units of a; floats: relative rounding.
double WorstError(BlockFormat format) {
  switch (format) {
    case BlockFormat::kF32:
      return 0;
    case BlockFormat::kF16:
      return std::ldexp(1, -11);
    case BlockFormat::kBF16:
      return std::ldexp(1, -8);  // truncation or rounding
    case BlockFormat::kQ8_0:
      return 0.5 / 127 + 1e-3;
    case BlockFormat::kQ4_0:
      return 1.0 / 8;  // the far end of an asymmetric code range is clipped by one step
    case BlockFormat::kQ4_1:
      return 0.5 * 2 / 15 + 2e-3;
    case BlockFormat::kQ5_0:
      return 1.0 / 16;
    case BlockFormat::kQ5_1:
      return 0.5 * 2 / 31 + 2e-3;
    default:
      return -1;
  }
}

TEST(Quantize, ErrorIsAtMostHalfAStep) {
  constexpr int64_t kValues = 4096;
  Random random(5);
  std::vector<float> values(kValues), back(kValues);
  for (float& value : values) value = static_cast<float>(random.Gaussian());
  for (const BlockFormatInfo& info : kBlockFormats) {
    if (!CanQuantize(info.format)) {
      EXPECT_THROW(QuantizeRow(info.format, values.data(), 256, nullptr), Error) << info.name;
      continue;
    }
    SCOPED_TRACE(info.name);
    std::vector<std::byte> blocks(kValues / info.values_per_block * info.bytes_per_block);
    QuantizeRow(info.format, values.data(), kValues, blocks.data());
    DequantizeRow(info.format, blocks.data(), kValues, back.data());
    for (int64_t first = 0; first < kValues; first += info.values_per_block) {
      double peak = 0;
      for (int64_t i = first; i < first + info.values_per_block; ++i) {
        peak = std::max(peak, std::abs(static_cast<double>(values[static_cast<size_t>(i)])));
      }
      for (int64_t i = first; i < first + info.values_per_block; ++i) {
        const auto at = static_cast<size_t>(i);
        ASSERT_LE(std::abs(static_cast<double>(values[at]) - static_cast<double>(back[at])),
                  WorstError(info.format) * peak * 1.001)
            << "value " << i;
      }
    }
  }
}

TEST(Quantize, ZeroBlocksStayZero) {
  const std::vector<float> zeros(256);
  for (const BlockFormatInfo& info : kBlockFormats) {
    if (!CanQuantize(info.format)) continue;
    std::vector<std::byte> blocks(256 / info.values_per_block * info.bytes_per_block);
    std::vector<float> back(256, 1);
    QuantizeRow(info.format, zeros.data(), 256, blocks.data());
    DequantizeRow(info.format, blocks.data(), 256, back.data());
    EXPECT_EQ(back, zeros) << info.name;
  }
}

}  // namespace
}  // namespace tq
