// SPDX-License-Identifier: Apache-2.0
// What a trellis kernel's compiler may know of a tile side: whose values meet in its threads.
#pragma once

#include "turboquant/codec/cuda/lane_ops.cuh"
#include "turboquant/codec/cuda/ring_layout.h"
#include "turboquant/codec/trellis_search.h"

namespace tq::cuda {

// The tokens that a ring's positions belong to, in order of appearance: of a unit, and so far from
// each other in all units.
struct RingTokens {
  int count;
  uint8_t of[kUnitCodes];     // by position
  uint8_t first[kUnitCodes];  // the first position of each
};
constexpr RingTokens RingTokensOf(const TrellisGroups& groups) {
  RingTokens tokens = {};
  for (int p = 0; p < kUnitCodes; ++p) {
    int i = 0;
    while (i < tokens.count &&
           groups.TokenOfCode(0, CodeAt(tokens.first[i])) != groups.TokenOfCode(0, CodeAt(p))) {
      ++i;
    }
    if (i == tokens.count) tokens.first[tokens.count++] = static_cast<uint8_t>(p);
    tokens.of[p] = static_cast<uint8_t>(i);
  }
  return tokens;
}
// How many words have all the tokens: those behind them have the same ones again. Two at least, for
// loads to overlap.
constexpr int RingPeriodOf(const RingTokens& tokens) {
  for (int period = 2; period < kRingWordCount; period *= 2) {
    bool again = true;
    for (int p = 0; p + 4 * period < kUnitCodes; ++p) {
      again = again && tokens.of[p] == tokens.of[p + 4 * period];
    }
    if (again) return period;
  }
  return kRingWordCount;
}
// Into how many parts (ring_words.cuh) its words fall by token.
constexpr int RingPartsOf(const RingTokens& tokens) {
  int parts = 1;
  for (int p = 0; p < kUnitCodes; p += 4) {
    if (tokens.of[p] != tokens.of[p + 1]) parts = 2;
  }
  for (int p = 0; p < kUnitCodes; p += 4) {
    if (tokens.of[p] != tokens.of[p + 2] || tokens.of[p + 1] != tokens.of[p + 3]) parts = 4;
  }
  return parts;
}
// What the compiler may know of a tile side.
template <int kDim, Side kSide>
struct FixedGroups {
  static constexpr bool kKnown = true;
  static constexpr TrellisGroups kGroups{MakeTileLayout(kDim), kSide};
  static constexpr RingTokens kTokens = RingTokensOf(kGroups);
  static constexpr int kParts = RingPartsOf(kTokens);
  static constexpr bool kOneToken = kTokens.count == 1;
  TQ_DEVICE explicit FixedGroups(const TrellisGroups&) {}
  TQ_DEVICE TrellisGroups operator()() const { return kGroups; }
};
struct AnyGroups {
  static constexpr bool kKnown = false, kOneToken = false;
  static constexpr int kParts = 4;
  TrellisGroups groups;
  TQ_DEVICE explicit AnyGroups(const TrellisGroups& g) : groups(g) {}
  TQ_DEVICE TrellisGroups operator()() const { return groups; }
};

}  // namespace tq::cuda
