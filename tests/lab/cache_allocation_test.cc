// SPDX-License-Identifier: Apache-2.0
// The greedy choice of codecs, against small cases worked out by hand and against trying
// everything.
#include "lab/cache_allocation.h"

#include <gmock/gmock.h>

#include "turboquant/base/random.h"

namespace tq::lab {
namespace {

using testing::ElementsAre;

const CacheSlot kSlot = {{Codec::kTurbo2, 2, 8}, {Codec::kTurbo3, 3, 2}, {Codec::kTurbo4, 4, 1}};

CacheSlot Times(CacheSlot slot, double factor) {
  for (CacheOption& option : slot) option.divergence *= factor;
  return slot;
}

TEST(CacheAllocationTest, BytesGoWhereTheySaveMost) {
  const std::vector<CacheSlot> slots = {kSlot, Times(kSlot, 10), Times(kSlot, 0.1)};
  const Allocation allocation = Allocate(slots, {.bytes = 9});
  EXPECT_THAT(allocation.choice, ElementsAre(1, 2, 0));
  EXPECT_DOUBLE_EQ(allocation.bytes, 9);
  EXPECT_DOUBLE_EQ(allocation.divergence, 2 + 10 + 0.8);
}

TEST(CacheAllocationTest, StopsWhenTheDivergenceIsSmallEnough) {
  const std::vector<CacheSlot> slots = {kSlot, Times(kSlot, 10)};
  EXPECT_THAT(Allocate(slots, {.divergence = 100}).choice, ElementsAre(0, 0));
  EXPECT_THAT(Allocate(slots, {.divergence = 28}).choice, ElementsAre(0, 1));
  EXPECT_THAT(Allocate(slots, {.divergence = 12}).choice, ElementsAre(1, 2));
}

TEST(CacheAllocationTest, LimitsThatCannotBeMetShowInTheSums) {
  const std::vector<CacheSlot> slots = {kSlot, kSlot};
  EXPECT_DOUBLE_EQ(Allocate(slots, {.bytes = 1}).bytes, 4);              // the cheapest
  EXPECT_DOUBLE_EQ(Allocate(slots, {.divergence = 0.1}).divergence, 2);  // the best
  const Allocation both = Allocate(slots, {.bytes = 6, .divergence = 1});
  EXPECT_DOUBLE_EQ(both.bytes, 6);
  EXPECT_DOUBLE_EQ(both.divergence, 4);
}

TEST(CacheAllocationTest, OptionsThatAreNeverWorthItAreSkipped) {
  // Dominated, of equal bytes but worse, and above the line between its neighbours.
  const CacheSlot slot = {{Codec::kTurbo2, 2, 8}, {Codec::kQ4_0, 2, 9},   {Codec::kTurbo3, 3, 7.9},
                          {Codec::kTurbo4, 4, 1}, {Codec::kQ8_0, 5, 1.5}, {Codec::kTurbo8, 8, 0.5}};
  const std::vector<CacheSlot> slots = {slot};
  EXPECT_THAT(Allocate(slots, {.divergence = 7.95}).choice, ElementsAre(3));
  EXPECT_THAT(Allocate(slots, {.divergence = 0.9}).choice, ElementsAre(5));
  EXPECT_THAT(Allocate(slots, {.bytes = 3.5}).choice, ElementsAre(0));
}

// Greedy on convex options is optimal but for the last step: never worse than the best of
// everything with one step's bytes less.
TEST(CacheAllocationTest, AsGoodAsTryingEverythingButForAStep) {
  Random random(5);
  for (int round = 0; round < 50; ++round) {
    std::vector<CacheSlot> slots;
    for (int s = 0; s < 6; ++s) slots.push_back(Times(kSlot, 0.1 + 3 * random.Uniform()));
    const double limit = 12 + std::floor(12 * random.Uniform());
    double best = 1e300;
    for (int code = 0; code < 729; ++code) {
      double bytes = 0, divergence = 0;
      for (int s = 0, rest = code; s < 6; ++s, rest /= 3) {
        bytes += slots[static_cast<size_t>(s)][static_cast<size_t>(rest % 3)].bytes;
        divergence += slots[static_cast<size_t>(s)][static_cast<size_t>(rest % 3)].divergence;
      }
      if (bytes <= limit) best = std::min(best, divergence);
    }
    // Steps here all cost one byte, so greedy leaves nothing unused.
    EXPECT_NEAR(Allocate(slots, {.bytes = limit}).divergence, best, 1e-9);
  }
}

}  // namespace
}  // namespace tq::lab
