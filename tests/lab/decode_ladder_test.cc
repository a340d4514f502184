// SPDX-License-Identifier: Apache-2.0
#include "lab/decode_ladder.h"

#include <gtest/gtest.h>

#include <cmath>

#include "turboquant/base/error.h"
#include "turboquant/base/random.h"

namespace tq::lab {
namespace {

TEST(DecodeLadderTest, EveryWayGivesTheSameProduct) {
  Random random(3);
  for (int round = 0; round < 20; ++round) {
    std::vector<uint8_t> codes(kLadderDim);
    std::vector<float> query(kLadderDim);
    double expected = 0, size = 0;
    for (size_t i = 0; i < codes.size(); ++i) {
      codes[i] = static_cast<uint8_t>(random.Next() % 8);
      query[i] = static_cast<float>(random.Gaussian());
      expected += double{query[i]} * LadderLevel(codes[i]);
      size += std::abs(double{query[i]} * LadderLevel(codes[i]));
    }
    const std::vector<uint8_t> packed = PackLadderCodes(codes);
    for (const DecodeWayInfo& info : kDecodeWays) {
      if (info.way == DecodeWay::kNothing) continue;
      EXPECT_NEAR(LadderProduct(info.way, packed.data(), query.data()), expected, 1e-5 * size)
          << info.name;
    }
  }
}

TEST(DecodeLadderTest, WaysAreTimedByName) {
  for (const DecodeWayInfo& info : kDecodeWays) {
    EXPECT_EQ(ParseDecodeWay(info.name), info.way);
    const std::vector<double> samples = DecodeLadder(info.way, 2);
    ASSERT_EQ(samples.size(), 2u);
    EXPECT_GT(samples[0], 0);
  }
  EXPECT_THROW(ParseDecodeWay("tables"), Error);
}

}  // namespace
}  // namespace tq::lab
