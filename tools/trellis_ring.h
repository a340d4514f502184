// SPDX-License-Identifier: Apache-2.0
// The best ring of a code at one gain, nearly: what the table search runs. Pages are sealed by laps
// that are cheaper each (codec/cpu/trellis_ring_scalar.h) and many.
//
// Viterbi over a ring: a forward and a backward lap with free ends give every state's cost of being
// passed between ring positions 31 and 0; from the best few of them a lap is closed, and the best
// of those is taken.
#pragma once

#include <array>
#include <cstdint>

#include "turboquant/codec/trellis_search.h"

namespace tq {

inline constexpr int kRingStarts = 4;  // states from which a closed lap is tried

class RingSearch {
 public:
  explicit RingSearch(const Trellis& trellis) : trellis_(trellis) {
    for (uint32_t w = 0; w < parity_.size(); ++w) {
      parity_[w] = static_cast<uint8_t>(trellis.ParityOf(w));
    }
  }

  // in [32]: inputs in ring order. Adds to words [bits], which must be zero; levels [32].
  void Encode(const int16_t* in, uint32_t* words, int8_t* levels, int starts = kRingStarts) {
    for (int p = 0; p < kUnitCodes; ++p) Measure(in[p], p);
    Costs forward = {}, backward = {};
    for (int p = 0; p < kUnitCodes; ++p) Advance(p, forward);
    for (int p = kUnitCodes - 1; p >= 0; --p) Retreat(p, backward);
    Costs through;
    for (size_t s = 0; s < through.size(); ++s) through[s] = forward[s] + backward[s];
    uint32_t best = 1u << 16, start = 0;
    for (int i = 0; i < starts; ++i) {
      uint32_t state = 0;
      for (uint32_t s = 1; s < kTrellisStates; ++s) {
        if (through[s] < through[state]) state = s;
      }
      through[state] = 0xffff;
      const uint32_t cost = Close(state);
      if (cost < best) {
        best = cost;
        start = state;
      }
    }
    Close(start);
    uint32_t state = start;
    for (int p = kUnitCodes - 1; p >= 0; --p) {
      const uint32_t window = state | (older_[p] >> state & 1u) << (kTrellisMemory - 1);
      const Choice& choice = choices_[p][parity_[window]];
      words[0] |= (window & 1u) << p;
      SetFreeBits(trellis_.bits, words, p % 4, p / 4, choice.free);
      levels[p] = choice.level;
      state = window >> 1;
    }
  }

 private:
  static constexpr int kCostShift = 2;
  static constexpr int kMaxCost = 895;
  static constexpr uint32_t kOtherStart = 28672;  // dearer than any lap
  using Costs = std::array<uint32_t, kTrellisStates>;
  struct Choice {
    uint32_t free;
    int8_t level;
  };

  void Measure(int input, int p) {
    const int grid = TrellisGrid(trellis_.bits);
    std::array<int, 1 << kTrellisMaxParities> squares;
    int least = 1 << 16;
    for (uint32_t z = 0; z < 1u << trellis_.parities; ++z) {
      int nearest = 1 << 15;
      for (uint32_t free = 0; free < 1u << trellis_.free_bits(); ++free) {
        const int level = trellis_.Level(free, z);
        int distance = input - grid * level;
        distance = distance < 0 ? -distance : distance;
        if (distance < nearest) {
          nearest = distance;
          choices_[p][z] = {free, static_cast<int8_t>(level)};
        }
      }
      if (nearest > kTrellisMaxDistance) nearest = kTrellisMaxDistance;
      squares[z] = nearest * nearest;
      least = squares[z] < least ? squares[z] : least;
    }
    for (uint32_t z = 0; z < 1u << trellis_.parities; ++z) {
      const int cost = (squares[z] - least) >> kCostShift;
      costs_[p][z] = static_cast<uint32_t>(cost < kMaxCost ? cost : kMaxCost);
    }
  }

  void Advance(int p, Costs& costs) {
    Costs next;
    uint32_t older = 0;
    for (uint32_t s = 0; s < kTrellisStates; ++s) {
      const uint32_t with0 = costs[s >> 1] + costs_[p][parity_[s]];
      const uint32_t with1 =
          costs[(s | kTrellisStates) >> 1] + costs_[p][parity_[s | kTrellisStates]];
      next[s] = with0 <= with1 ? with0 : with1;
      older |= static_cast<uint32_t>(with1 < with0) << s;
    }
    older_[p] = older;
    costs = next;
  }

  void Retreat(int p, Costs& costs) {
    Costs before;
    for (uint32_t s = 0; s < kTrellisStates; ++s) {
      const uint32_t window = 2 * s;
      const uint32_t with0 = costs[window % kTrellisStates] + costs_[p][parity_[window]];
      const uint32_t with1 = costs[(window + 1) % kTrellisStates] + costs_[p][parity_[window + 1]];
      before[s] = with0 <= with1 ? with0 : with1;
    }
    costs = before;
  }

  // The cost of the best lap from a state to itself; leaves its choices in older_.
  uint32_t Close(uint32_t state) {
    Costs costs;
    costs.fill(kOtherStart);
    costs[state] = 0;
    for (int p = 0; p < kUnitCodes; ++p) Advance(p, costs);
    return costs[state];
  }

  const Trellis& trellis_;
  std::array<uint8_t, 2 * kTrellisStates> parity_;
  std::array<std::array<Choice, 1 << kTrellisMaxParities>, kUnitCodes> choices_;
  std::array<std::array<uint32_t, 1 << kTrellisMaxParities>, kUnitCodes> costs_;
  std::array<uint32_t, kUnitCodes> older_;  // bit s: the window into state s has its oldest bit set
};

}  // namespace tq
