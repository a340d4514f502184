// SPDX-License-Identifier: Apache-2.0
// A lap over one ring, plainly: oracle of the vector kernels.
//
// Viterbi over a ring that is encoded again and again: a lap begins with the metrics that the one
// before ended with, so that states are weighed by what lies before them. A path closes if it ends
// in the state in which it began; from the end of least cost, ends are followed to their start
// until one closes. Where none does (one in four to twenty), bits of the last are taken as they
// are, which is a code as good as any other to the reader, and judged like one. Ties: the smaller
// state at the last mark.
#pragma once

#include <array>
#include <cstdint>

#include "turboquant/codec/trellis_search.h"

namespace tq::scalar {

using TrellisMetrics = std::array<uint16_t, kTrellisStates>;

class RingLap {
 public:
  explicit RingLap(const Trellis& trellis)
      : trellis_(trellis), table_(TrellisCostTable(trellis.bits)) {
    for (uint32_t w = 0; w < parity_.size(); ++w) {
      parity_[w] = static_cast<uint8_t>(trellis.ParityOf(w));
    }
  }

  // in [32]: inputs in ring order. The coded bits, a unit's word 0, and levels [32] in ring order.
  uint32_t Encode(const int16_t* in, TrellisMetrics& metrics, int8_t* levels) {
    uint16_t least = 0xffff;
    for (const uint16_t metric : metrics) least = metric < least ? metric : least;
    for (uint16_t& metric : metrics) metric = static_cast<uint16_t>(metric - (least & ~kStateMask));
    for (uint32_t s = 0; s < kTrellisStates; ++s) Mark(s, metrics);
    int p = 0;
    for (int mark = 0; mark < kTrellisMarkCount; ++mark) {
      for (; p < TrellisMark(mark); ++p) {
        costs_[p] = table_[static_cast<size_t>(in[p] + kTrellisMaxInput)];
        Advance(costs_[p], metrics);
      }
      for (uint32_t s = 0; s < kTrellisStates; ++s) {
        origins_[mark][s] = static_cast<uint8_t>(metrics[s] & kStateMask);
        Mark(s, metrics);
      }
    }
    uint16_t end = metrics[0];
    for (const uint16_t metric : metrics) end = metric < end ? metric : end;
    const uint32_t coded = Follow(end & kStateMask);
    for (p = 0; p < kUnitCodes; ++p) {
      const uint32_t parity = RingParity(trellis_, coded, p);
      levels[p] =
          static_cast<int8_t>(trellis_.Level(costs_[p].of[parity] >> kTrellisFreeShift, parity));
    }
    return coded;
  }

 private:
  static constexpr uint32_t kStateMask = kTrellisStates - 1;

  static void Mark(uint32_t s, TrellisMetrics& metrics) {
    metrics[s] = static_cast<uint16_t>((metrics[s] & ~kStateMask) | s);
  }

  void Advance(const TrellisCosts& costs, TrellisMetrics& metrics) const {
    const auto cost = [&](uint32_t window) { return costs.of[parity_[window]] & kTrellisCostMask; };
    TrellisMetrics next;
    for (uint32_t s = 0; s < kTrellisStates; ++s) {
      const int with0 = metrics[s >> 1] + cost(s);
      const int with1 = metrics[(s | kTrellisStates) >> 1] + cost(s | kTrellisStates);
      next[s] = static_cast<uint16_t>(with0 < with1 ? with0 : with1);
    }
    metrics = next;
  }

  uint32_t Follow(uint32_t end) const {
    uint32_t coded = 0;
    for (int i = 0; i < kTrellisTries; ++i) {
      coded = 0;
      uint32_t state = end;
      for (int mark = kTrellisMarkCount - 1; mark >= 0; --mark) {
        coded |= TrellisMarkBits(state, mark);
        state = origins_[mark][state];
      }
      if (state == end) break;
      end = state;
    }
    return coded;
  }

  const Trellis& trellis_;
  const std::array<TrellisCosts, kTrellisInputs>& table_;
  std::array<uint8_t, 2 * kTrellisStates> parity_;
  std::array<TrellisCosts, kUnitCodes> costs_;
  std::array<std::array<uint8_t, kTrellisStates>, kTrellisMarkCount> origins_;
};

}  // namespace tq::scalar
