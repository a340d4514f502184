// SPDX-License-Identifier: Apache-2.0
#include "turboquant/engine/position_spread.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "turboquant/base/thread_pool.h"

namespace tq {
namespace {

constexpr int kDim =
    8;  // pairs: one that turns fast, one as fast, one slow, one that does not turn

RopeTable Table(RopeStyle style) {
  return {.style = style, .rotary_dim = 6, .frequencies = {0.9, 0.9, 0.0004}};
}
int First(RopeStyle style, int pair) { return style == RopeStyle::kInterleaved ? 2 * pair : pair; }
int Second(RopeStyle style, int pair) {
  return style == RopeStyle::kInterleaved ? 2 * pair + 1 : pair + 3;
}

std::vector<double> MomentOf(const std::vector<double>& x) {
  std::vector<double> moment(kDim * kDim);
  for (int i = 0; i < kDim; ++i) {
    for (int j = 0; j < kDim; ++j)
      moment[static_cast<size_t>(i * kDim + j)] =
          x[static_cast<size_t>(i)] * x[static_cast<size_t>(j)];
  }
  return moment;
}

class PositionSpreadTest : public testing::TestWithParam<RopeStyle> {
 protected:
  double At(int i, int j) const { return moment_[static_cast<size_t>(i * kDim + j)]; }
  std::vector<double> moment_;
};

TEST_P(PositionSpreadTest, ADirectionThatTurnsFastBecomesItsPlane) {
  std::vector<double> x(kDim);
  const int i = First(GetParam(), 0), j = Second(GetParam(), 0);
  x[static_cast<size_t>(i)] = 2;
  moment_ = MomentOf(x);
  SpreadOverPositions(Table(GetParam()), 4096, kDim, moment_);
  EXPECT_NEAR(At(i, i), 2, 0.1);
  EXPECT_NEAR(At(j, j), 2, 0.1);
  EXPECT_NEAR(At(i, j), 0, 0.1);
  EXPECT_NEAR(At(i, i) + At(j, j), 4, 1e-9);
}

TEST_P(PositionSpreadTest, PlanesThatTurnTogetherStayTogether) {
  std::vector<double> x(kDim);
  const int i = First(GetParam(), 0), k = First(GetParam(), 1), slow = First(GetParam(), 2);
  x[static_cast<size_t>(i)] = x[static_cast<size_t>(k)] = x[static_cast<size_t>(slow)] = 1;
  moment_ = MomentOf(x);
  SpreadOverPositions(Table(GetParam()), 4096, kDim, moment_);
  EXPECT_NEAR(At(i, k), 0.5, 0.03);
  EXPECT_NEAR(At(i, slow), 0, 0.05);
}

TEST_P(PositionSpreadTest, WhatDoesNotTurnStays) {
  moment_ = MomentOf({0, 0, 0, 0, 0, 0, 3, -1});
  const std::vector<double> before = moment_;
  SpreadOverPositions(Table(GetParam()), 4096, kDim, moment_);
  for (size_t n = 0; n < before.size(); ++n) EXPECT_NEAR(moment_[n], before[n], 1e-9);
}

TEST_P(PositionSpreadTest, TurnsTheWayRopeDoes) {
  const ThreadPool pool(1);
  std::vector<float> x(kDim);
  const int i = First(GetParam(), 2), j = Second(GetParam(), 2);
  x[static_cast<size_t>(i)] = 1;
  std::vector<double> start(x.begin(), x.end());
  moment_ = MomentOf(start);
  SpreadOverPositions(Table(GetParam()), 1000, kDim, moment_);  // 0 to .4 rad
  RopeAngles angles;
  const std::vector<int32_t> position = {500};
  angles.Set(Table(GetParam()), position, pool);
  Rope({x.data(), 1, kDim, kDim}, 1, kDim, angles, pool);
  EXPECT_NEAR(At(i, j), x[static_cast<size_t>(i)] * x[static_cast<size_t>(j)], 0.02);
  EXPECT_GT(std::abs(At(i, j)), 0.1);
}

TEST_P(PositionSpreadTest, NoRangeChangesNothing) {
  moment_ = MomentOf({1, 2, 3, 4, 5, 6, 7, 8});
  const std::vector<double> before = moment_;
  SpreadOverPositions(Table(GetParam()), 0, kDim, moment_);
  for (size_t n = 0; n < before.size(); ++n) EXPECT_NEAR(moment_[n], before[n], 1e-9);
}

INSTANTIATE_TEST_SUITE_P(Styles, PositionSpreadTest,
                         testing::Values(RopeStyle::kInterleaved, RopeStyle::kHalves));

}  // namespace
}  // namespace tq
