// SPDX-License-Identifier: Apache-2.0
// What a trellis kernel's compiler may know of a tile side: whose values meet in its threads.
#pragma once

#include "turboquant/codec/cuda/lane_ops.cuh"
#include "turboquant/codec/trellis_search.h"

namespace tq::cuda {

// Are elements e and e + 2 of a word always the same token's?
constexpr bool PairsShareTokens(const TrellisGroups& groups) {
  for (int n = 0; n < kUnitCodes / 2; ++n) {
    if (groups.TokenOfCode(0, n) != groups.TokenOfCode(0, n + kUnitCodes / 2)) return false;
  }
  return true;
}
// Are a unit's codes in a lane all of one token?
constexpr bool RingsHaveOneToken(const TrellisGroups& groups) {
  return groups.side == Side::kKey && groups.tile.head_dim / 4 % kUnitCodes == 0;
}
// What the compiler may know of a tile side.
template <int kDim, Side kSide>
struct FixedGroups {
  static constexpr bool kKnown = true;
  static constexpr TrellisGroups kGroups{MakeTileLayout(kDim), kSide};
  static constexpr bool kPairs = PairsShareTokens(kGroups);
  static constexpr bool kOneToken = RingsHaveOneToken(kGroups);
  static constexpr bool kLanesShareTokens = kSide == Side::kValue;
  TQ_DEVICE explicit FixedGroups(const TrellisGroups&) {}
  TQ_DEVICE TrellisGroups operator()() const { return kGroups; }
};
struct AnyGroups {
  static constexpr bool kKnown = false, kPairs = false, kOneToken = false,
                        kLanesShareTokens = false;
  TrellisGroups groups;
  TQ_DEVICE explicit AnyGroups(const TrellisGroups& g) : groups(g) {}
  TQ_DEVICE TrellisGroups operator()() const { return groups; }
};

}  // namespace tq::cuda
