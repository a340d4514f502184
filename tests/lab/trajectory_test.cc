// SPDX-License-Identifier: Apache-2.0
#include "lab/trajectory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/lab/fake_logits.h"

namespace tq::lab {
namespace {

using testing::ElementsAre;

constexpr int kVocabulary = 50;

TEST(TrajectoryTest, TakesTheLikeliestAndGoesOnFromIt) {
  FakeLogits source(kVocabulary, 0);
  const std::vector<TokenId> prompt = {3, 1, 4, 1, 5, 9, 2};
  const std::vector<TokenId> tokens =
      GreedyTokens(source, prompt, {.tokens = 5, .batch = 3, .on_fed = {}});
  ASSERT_EQ(tokens.size(), 5u);
  TokenId before = prompt.back();
  for (int i = 0; i < 5; ++i) {
    const std::vector<float> row = source.Row(before, 6 + i);
    before = static_cast<TokenId>(std::ranges::max_element(row) - row.begin());
    EXPECT_EQ(tokens[static_cast<size_t>(i)], before);
  }
  // The last one is not fed; nothing but the last row of the prompt was asked for.
  EXPECT_EQ(source.fed().size(), prompt.size() + 4);
  EXPECT_EQ(source.most_rows(), 1);
  EXPECT_EQ(GreedyTokens(source, prompt, {.tokens = 5, .batch = 512, .on_fed = {}}), tokens);
}

TEST(TrajectoryTest, ComparesPlaceByPlace) {
  const std::vector<TokenId> a = {1, 2, 3, 4}, b = {1, 2, 7, 4};
  const TrajectoryPair differs = CompareTrajectories(a, b), same = CompareTrajectories(a, a);
  EXPECT_EQ(differs.first_difference, 2);
  EXPECT_DOUBLE_EQ(differs.agreement, 0.75);
  EXPECT_FALSE(differs.same);
  EXPECT_EQ(same.first_difference, 4);
  EXPECT_TRUE(same.same);
  const std::vector<TrajectoryPair> pairs = {differs, same, same, same};
  const TrajectorySummary summary = SummariseTrajectories(pairs);
  EXPECT_EQ(summary.same, 3);
  EXPECT_DOUBLE_EQ(summary.first_difference.value, 3.5);
  EXPECT_DOUBLE_EQ(summary.median_first_difference, 4);
  EXPECT_DOUBLE_EQ(summary.share_same().value, 0.75);
}

}  // namespace
}  // namespace tq::lab
