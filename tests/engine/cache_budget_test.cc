// SPDX-License-Identifier: Apache-2.0
#include "turboquant/engine/cache_budget.h"

#include <gmock/gmock.h>

#include "turboquant/base/error.h"

namespace tq {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using enum Codec;

constexpr uint64_t kMiB = 1 << 20;
constexpr int64_t kContext = 32768;

KvGeometry Geometry(int sliding_window = 0) {
  return {24, 4, 128, std::vector<int>(24, sliding_window)};
}
uint64_t Bytes(const CachePolicy& policy, int64_t context = kContext) {
  return KvCache::BytesForContext(Geometry(), policy, context);
}
CachePolicy All(Codec k, Codec v) {
  return {.k = std::vector<Codec>(24, k), .v = std::vector<Codec>(24, v)};
}

TEST(CacheBudget, TypesFallAsTheBudgetDoes) {
  const uint64_t most = Bytes(All(kTurbo8, kTurbo8)), least = Bytes(All(kTurbo2Tcq, kTurbo2Tcq));
  EXPECT_EQ(FitBudget(Geometry(), {}, kContext, 512, most).policy, All(kTurbo8, kTurbo8));
  EXPECT_EQ(FitBudget(Geometry(), {}, kContext, 512, least).policy, All(kTurbo2Tcq, kTurbo2Tcq));
  double before = 0;
  int aged = 0;
  for (uint64_t budget = most; budget >= least; budget -= 8 * kMiB) {
    const BudgetedCache cache = FitBudget(Geometry(), {}, kContext, 512, budget);
    EXPECT_LE(Bytes(cache.policy), budget);
    EXPECT_GE(cache.divergence, before) << budget;
    before = cache.divergence;
    if (cache.policy.ages.empty()) continue;
    ++aged;
    ASSERT_EQ(cache.policy.ages.size(), 1u);
    EXPECT_TRUE(Ages(cache.policy));
    // As late as the bytes allow.
    CachePolicy later = cache.policy;
    later.ages[0].age += kPageTokens;
    EXPECT_GT(Bytes(later), budget) << AgeStepsText(cache.policy.ages);
  }
  EXPECT_GT(aged, 30);
}

TEST(CacheBudget, ExpectedDivergenceGoesByShares) {
  const uint64_t budget =
      (Bytes(All(kTurbo4Tcq, kTurbo3Tcq)) + Bytes(All(kTurbo3Tcq, kTurbo3Tcq))) / 2;
  const BudgetedCache cache = FitBudget(Geometry(), {}, kContext, 512, budget);
  EXPECT_EQ(cache.policy.k, All(kTurbo4Tcq, kTurbo3Tcq).k);
  ASSERT_EQ(cache.policy.ages.size(), 1u);
  EXPECT_EQ(cache.policy.ages[0].k, kTurbo3Tcq);
  const double older = 1 - cache.policy.ages[0].age / static_cast<double>(kContext);
  EXPECT_GT(older, 0.4);  // a little more than half: two forms of some pages are held at a time
  EXPECT_LT(older, 0.75);
  const double low =
      FitBudget(Geometry(), {}, kContext, 512, Bytes(All(kTurbo3Tcq, kTurbo3Tcq))).divergence;
  EXPECT_NEAR(cache.divergence, 1 + older * (low - 1) * 1.4, 1e-9);  // sealed twice
}

TEST(CacheBudget, TheShapeStays) {
  CachePolicy shape;
  shape.window = 512;
  shape.sink_pages = 2;
  shape.rollback = 10;
  const CachePolicy policy = FitBudget(Geometry(), shape, kContext, 512, 300 * kMiB).policy;
  EXPECT_EQ(policy.window, 512);
  EXPECT_EQ(policy.sink_pages, 2);
  EXPECT_EQ(policy.rollback, 10);
}

// What leaves a sliding window never gets that old: it costs nothing.
TEST(CacheBudget, SlidingWindowsKeepTheirBits) {
  const BudgetedCache cache = FitBudget(Geometry(1024), {}, kContext, 512, 64 * kMiB);
  EXPECT_LE(KvCache::BytesForContext(Geometry(1024), cache.policy, kContext), 64 * kMiB);
}

TEST(CacheBudget, WhatCannotFitSaysWhatWould) {
  try {
    FitBudget(Geometry(), {}, kContext, 512, 20 * kMiB);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kOutOfMemory);
    EXPECT_THAT(error.what(), AllOf(HasSubstr("32768 tokens"), HasSubstr("20.0 MiB"),
                                    HasSubstr("fewest bits"), HasSubstr("would fit")));
  }
}

TEST(CacheBudget, ACacheStaysWithinItToTheLastToken) {
  for (const uint64_t budget : {700 * kMiB, 420 * kMiB, 385 * kMiB, 290 * kMiB}) {
    const CachePolicy policy = FitBudget(Geometry(), {}, kContext, 512, budget).policy;
    EXPECT_TRUE(Ages(policy)) << budget;
    KvCache cache(Geometry(), policy, MakeHostArenaMemory(2 * budget), budget);
    const SequenceId id = cache.NewSequence();
    cache.Reserve(id, kContext);  // throws if it did not fit
    uint64_t most = 0;
    for (int64_t left = kContext; left > 0;) {
      // Bookkeeping alone: no byte is encoded.
      const AppendRequest request{id,
                                  left > 300 ? static_cast<int>(std::min<int64_t>(left, 512)) : 1};
      cache.Commit(cache.PlanAppend({&request, 1}));
      left -= request.tokens;
      most = std::max(most, cache.Memory().committed_bytes);
    }
    EXPECT_LE(most, budget);
    EXPECT_GT(most, budget - budget / 16) << "more bits would have fit";
  }
}

}  // namespace
}  // namespace tq
