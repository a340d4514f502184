// SPDX-License-Identifier: Apache-2.0
// The list of published experiments is whole, and figures are judged by rule.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "lab/basis_cost.h"
#include "lab/experiments/experiment.h"
#include "turboquant/base/error.h"

namespace tq::lab {
namespace {

TEST(ExperimentsTest, TheListingIsWhole) {
  std::set<std::string_view> ids;
  int proposed = 0;
  for (const Experiment& e : Experiments()) {
    SCOPED_TRACE(e.id);
    EXPECT_TRUE(ids.insert(e.id).second);
    proposed += e.id.starts_with("proposed-");
    for (const std::string_view text : {e.title, e.hypothesis, e.published, e.verdict, e.source})
      EXPECT_FALSE(text.empty());
    EXPECT_TRUE(std::ranges::any_of(Sources(), [&](const Source& source) {
      return e.source.find(source.tag) != std::string_view::npos;
    })) << e.source;
  }
  EXPECT_EQ(ids.size(), 38u);
  EXPECT_EQ(proposed, 11);
}

TEST(ExperimentsTest, EachRunsOrSaysWhyNotAndWhatDoes) {
  for (const Experiment& e : Experiments()) {
    SCOPED_TRACE(e.id);
    if (e.measure == Measure::kNone) {
      EXPECT_FALSE(e.reason.empty());
      EXPECT_TRUE(e.claims.empty());
      EXPECT_NE(GetExperiment(e.nearest).measure, Measure::kNone);
      continue;
    }
    EXPECT_TRUE(e.reason.empty() && e.nearest.empty());
    EXPECT_FALSE(e.claims.empty());
    for (const Claim& claim : e.claims) {
      EXPECT_FALSE(claim.text.empty());
      EXPECT_NE(claim.a, claim.b);
    }
    EXPECT_EQ(NeedsModel(e.measure), e.size > 0);
  }
}

TEST(ExperimentsTest, SpeedsHaveTheSameOfF16) {
  for (const Experiment& e : Experiments()) {
    if (e.measure != Measure::kSpeed) continue;
    const std::vector<std::string> rows = RowsOf(e);
    for (const std::string& row : rows) {
      const size_t words = std::min(row.find(' '), row.size());
      EXPECT_THAT(rows, testing::Contains("f16" + row.substr(words))) << e.id;
    }
  }
}

TEST(ExperimentsTest, AnUnknownIdIsRefusedWithTheNearest) {
  try {
    GetExperiment("proposd-7");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(error.what(), testing::HasSubstr("proposed-7"));
  }
}

TEST(VerdictTest, BetterWantsTwoErrors) {
  EXPECT_EQ(Judge(Relation::kBetter, {.value = 3, .error = 1}, 0), Verdict::kConfirmed);
  EXPECT_EQ(Judge(Relation::kBetter, {.value = 1, .error = 1}, 0), Verdict::kUndecided);
  EXPECT_EQ(Judge(Relation::kBetter, {.value = -3, .error = 1}, 0), Verdict::kContradicted);
  EXPECT_EQ(Judge(Relation::kBetter, {.value = 3, .error = 1}, 2), Verdict::kUndecided);
  EXPECT_EQ(Judge(Relation::kBetter, {.value = 3, .error = 1}, 6), Verdict::kContradicted);
}

TEST(VerdictTest, NoBetterIsTheContrary) {
  for (const double gain : {-5.0, -1.0, 0.0, 1.0, 5.0}) {
    const Verdict better = Judge(Relation::kBetter, {gain, 1}, 1),
                  not_better = Judge(Relation::kNoBetter, {gain, 1}, 1);
    EXPECT_EQ(better == Verdict::kUndecided, not_better == Verdict::kUndecided) << gain;
    EXPECT_TRUE(better == Verdict::kUndecided || better != not_better) << gain;
  }
  EXPECT_EQ(Judge(Relation::kNoBetter, {-5, 1}, 1), Verdict::kConfirmed);
}

TEST(VerdictTest, SameHoldsWithinTheMarginOnBothSides) {
  for (const double sign : {-1.0, 1.0}) {
    EXPECT_EQ(Judge(Relation::kSame, {sign * 0.5, 0.2}, 1), Verdict::kConfirmed);
    EXPECT_EQ(Judge(Relation::kSame, {sign * 1.1, 0.2}, 1), Verdict::kUndecided);
    EXPECT_EQ(Judge(Relation::kSame, {sign * 2.0, 0.2}, 1), Verdict::kContradicted);
  }
}

TEST(VerdictTest, FiguresThatAreNoNumbersDecideNothing) {
  for (const Relation relation : {Relation::kBetter, Relation::kNoBetter, Relation::kSame})
    EXPECT_EQ(Judge(relation, {std::nan(""), 0}, 0.1), Verdict::kUndecided);
}

TEST(VerdictTest, OneContradictedClaimContradicts) {
  using enum Verdict;
  EXPECT_EQ(Worse(kConfirmed, kConfirmed), kConfirmed);
  EXPECT_EQ(Worse(kConfirmed, kUndecided), kUndecided);
  EXPECT_EQ(Worse(kUndecided, kContradicted), kContradicted);
}

TEST(BasisCostTest, GivesASamplePerRepetition) {
  const std::vector<double> samples = BasisCost(Codec::kTurbo3, ReadBasis::kOriginal, 2);
  ASSERT_EQ(samples.size(), 2u);
  EXPECT_GT(samples[0], 0);
}

}  // namespace
}  // namespace tq::lab
