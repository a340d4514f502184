// SPDX-License-Identifier: Apache-2.0
#include "lab/statistics.h"

#include <gtest/gtest.h>

#include <cmath>

#include "turboquant/base/random.h"

namespace tq::lab {
namespace {

std::vector<float> Gaussian(int n, uint64_t seed) {
  Random random(seed);
  std::vector<float> samples(static_cast<size_t>(n));
  for (float& x : samples) x = static_cast<float>(random.Gaussian());
  return samples;
}

TEST(StatisticsTest, MeanAndError) {
  const std::vector<float> samples = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  const Estimate mean = Mean(samples);
  EXPECT_DOUBLE_EQ(mean.value, 6.5);
  EXPECT_NEAR(mean.error, std::sqrt(143.0 / 12 / 11), 1e-12);  // population variance (n^2 - 1) / 12
  EXPECT_EQ(Mean(std::vector<float>{1, 2}).error, 0);          // too few to tell
  EXPECT_EQ(Mean({}).value, 0);
}

TEST(StatisticsTest, PercentilesInterpolate) {
  const std::vector<float> sorted = {0, 10, 20, 30};
  EXPECT_DOUBLE_EQ(Percentile(sorted, 0), 0);
  EXPECT_DOUBLE_EQ(Percentile(sorted, 1), 30);
  EXPECT_DOUBLE_EQ(Percentile(sorted, 0.5), 15);
  EXPECT_DOUBLE_EQ(Percentile(sorted, 0.9), 27);
  EXPECT_DOUBLE_EQ(Percentile(std::vector<float>{7}, 0.999), 7);
}

TEST(StatisticsTest, PairedDifferenceOfEqualRunsHasNoError) {
  const auto a = Gaussian(500, 1);
  const Estimate same = PairedDifference(a, a);
  EXPECT_EQ(same.value, 0);
  EXPECT_NEAR(same.error, 0, 1e-9);
  // Independent runs: errors add up.
  const Estimate other = PairedDifference(a, Gaussian(500, 2));
  EXPECT_NEAR(other.error, std::sqrt(2.0 / 500), 0.01);
}

TEST(StatisticsTest, ExpOfMeanPropagatesTheError) {
  const auto a = Gaussian(1000, 3);
  const Estimate mean = Mean(a), exp = ExpOfMean(a);
  EXPECT_DOUBLE_EQ(exp.value, std::exp(mean.value));
  EXPECT_DOUBLE_EQ(exp.error, exp.value * mean.error);
}

TEST(StatisticsTest, BlockErrorSeesCorrelation) {
  // Every value eight times: the plain error is too small by sqrt(8).
  std::vector<float> samples;
  for (const float x : Gaussian(512, 4)) samples.insert(samples.end(), 8, x);
  const double plain = Mean(samples).error;
  const double block = BlockMean(samples, 64).error;
  EXPECT_NEAR(block / plain, std::sqrt(8.0), 0.5);
  const auto independent = Gaussian(4096, 5);
  EXPECT_NEAR(BlockMean(independent, 64).error / Mean(independent).error, 1.0, 0.25);
  EXPECT_EQ(BlockMean(samples, 64).value, Mean(samples).value);
}

// Values of Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
TEST(StatisticsTest, WilsonsIntervalHoldsAtTheEnds) {
  const Share some = WilsonShare(81, 263), few = WilsonShare(15, 148), none = WilsonShare(0, 20),
              one = WilsonShare(1, 29);
  EXPECT_NEAR(some.low, 0.2553, 5e-5);
  EXPECT_NEAR(some.high, 0.3662, 5e-5);
  EXPECT_NEAR(few.low, 0.0624, 5e-5);
  EXPECT_NEAR(few.high, 0.1605, 5e-5);
  EXPECT_NEAR(none.high, 0.1611, 5e-5);
  EXPECT_NEAR(one.low, 0.0061, 5e-5);
  EXPECT_NEAR(one.high, 0.1718, 5e-5);
  EXPECT_EQ(none.low, 0);
  EXPECT_NEAR(WilsonShare(20, 20).low, 1 - none.high, 1e-12);
  EXPECT_EQ(WilsonShare(0, 0).high, 1);
}

}  // namespace
}  // namespace tq::lab
