// SPDX-License-Identifier: Apache-2.0
// Laps over rings (codec/cpu/trellis_ring_scalar.h), two by each thread: metrics of the 32 states
// are 16-bit halves of registers, so a state's step is one addition and one addition with minimum
// for both rings.
#pragma once

#include "turboquant/codec/cuda/lane_ops.cuh"
#include "turboquant/codec/trellis_search.h"

namespace tq::cuda {

// Bit w: parity t of window w.
constexpr uint64_t ParityBits(int bits, int t) {
  uint64_t result = 0;
  for (uint32_t w = 0; w < 2 * kTrellisStates; ++w) {
    result |= static_cast<uint64_t>(TrellisOfBits(bits).ParityOf(w) >> t & 1u) << w;
  }
  return result;
}

template <int kBits>
struct RingPair {
  static constexpr int kParities = 1 << TrellisOfBits(kBits).parities;
  static constexpr int kFree = 1 << TrellisOfBits(kBits).free_bits();
  static constexpr uint32_t kStates = kTrellisStates;
  static constexpr uint32_t kBothStates = (kStates - 1) * 0x10001u;
  static constexpr int kOriginWords = kTrellisMarkCount * kTrellisStates / 2;  // of a thread

  using Metrics = uint32_t[kTrellisStates];

  const TrellisCosts* table;  // in shared memory, by input
  // This thread's, `threads` apart: bytes of two states for both rings, [mark][state / 2].
  uint32_t* origins;
  int threads;

  TQ_DEVICE static uint32_t Parity(uint32_t window) {
    constexpr uint64_t kZ0 = ParityBits(kBits, 0), kZ1 = ParityBits(kBits, 1);
    uint32_t z =
        static_cast<uint32_t>(kZ0 >> window & 1u) | static_cast<uint32_t>(kZ1 >> window & 1u) << 1;
    if constexpr (kParities == 8) {
      constexpr uint64_t kZ2 = ParityBits(kBits, 2);
      z |= static_cast<uint32_t>(kZ2 >> window & 1u) << 2;
    }
    return z;
  }

  TQ_DEVICE const TrellisCosts& CostsOf(int input) const { return table[input + kTrellisMaxInput]; }
  // Costs of both rings, the first one's in the low halves.
  TQ_DEVICE void LoadCosts(int first, int second, uint32_t (&c)[kParities]) const {
    const auto* a = reinterpret_cast<const uint2*>(&CostsOf(first));
    const auto* b = reinterpret_cast<const uint2*>(&CostsOf(second));
    constexpr uint32_t kMask = kTrellisCostMask * 0x10001u;
#pragma unroll
    for (int i = 0; i < kParities / 4; ++i) {
      const uint2 x = a[i], y = b[i];
      c[4 * i] = Prmt(x.x, y.x, 0x5410u) & kMask;
      c[4 * i + 1] = Prmt(x.x, y.x, 0x7632u) & kMask;
      c[4 * i + 2] = Prmt(x.y, y.y, 0x5410u) & kMask;
      c[4 * i + 3] = Prmt(x.y, y.y, 0x7632u) & kMask;
    }
  }

  TQ_DEVICE static void Advance(const uint32_t (&c)[kParities], Metrics& metrics) {
    Metrics next;
#pragma unroll
    for (uint32_t s = 0; s < kStates; ++s) {
      next[s] = AddMin16x2(metrics[(s | kStates) >> 1], c[Parity(s | kStates)],
                           metrics[s >> 1] + c[Parity(s)]);
    }
#pragma unroll
    for (uint32_t s = 0; s < kStates; ++s) metrics[s] = next[s];
  }

  TQ_DEVICE static void SetMarks(Metrics& metrics) {
#pragma unroll
    for (uint32_t s = 0; s < kStates; ++s) metrics[s] = (metrics[s] & ~kBothStates) | s * 0x10001u;
  }
  TQ_DEVICE static uint32_t Least(const Metrics& metrics) {
    uint32_t least[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) least[i] = metrics[i];
#pragma unroll
    for (uint32_t s = 4; s < kStates; ++s) {
      least[s % 4] = AddMin16x2(metrics[s], 0, least[s % 4]);
    }
    return AddMin16x2(AddMin16x2(least[0], 0, least[1]), 0, AddMin16x2(least[2], 0, least[3]));
  }

  // inputs(p).of[2]: those of both rings at a position. Gives the ends of both rings.
  template <typename Inputs>
  TQ_DEVICE uint32_t Lap(const Inputs& inputs, Metrics& metrics) const {
    const uint32_t least = Least(metrics) & ~kBothStates;
#pragma unroll
    for (uint32_t s = 0; s < kStates; ++s) metrics[s] -= least;
    SetMarks(metrics);
#pragma unroll 1
    for (int mark = 0; mark < kTrellisMarkCount; ++mark) {
#pragma unroll
      for (int i = 0; i < kTrellisMarkStep; ++i) {
        const int p = mark * kTrellisMarkStep + i;
        if (p >= kUnitCodes) break;
        uint32_t c[kParities];
        const auto x = inputs(p);
        LoadCosts(x.of[0], x.of[1], c);
        Advance(c, metrics);
      }
#pragma unroll
      for (uint32_t s = 0; s < kStates; s += 2) {
        origins[(static_cast<uint32_t>(mark) * (kStates / 2) + s / 2) *
                static_cast<uint32_t>(threads)] = Prmt(metrics[s], metrics[s + 1], 0x6420u);
      }
      SetMarks(metrics);
    }
    return Least(metrics) & kBothStates;
  }

  TQ_DEVICE uint32_t Origin(int mark, uint32_t state, int ring) const {
    const uint32_t word = origins[(static_cast<uint32_t>(mark) * (kStates / 2) + state / 2) *
                                  static_cast<uint32_t>(threads)];
    return word >> (state % 2 * 16 + static_cast<uint32_t>(ring) * 8) & (kStates - 1);
  }
  // The coded bits of a ring, from the end of the lap back.
  TQ_DEVICE uint32_t Follow(uint32_t end, int ring) const {
    uint32_t coded = 0;
#pragma unroll 1
    for (int i = 0; i < kTrellisTries; ++i) {
      // State bits are those of the word from the newest on: collected in that order, reversed.
      uint32_t state = end, reversed = end;
#pragma unroll
      for (int mark = kTrellisMarkCount - 1; mark > 0; --mark) {
        state = Origin(mark, state, ring);
        reversed |= state << (kUnitCodes - TrellisMark(mark - 1));
      }
      coded = ReverseBits(reversed);
      state = Origin(0, state, ring);
      if (state == end) break;
      end = state;
    }
    return coded;
  }

  // Parities of all positions: bit p of word t is parity t of the value there.
  TQ_DEVICE static void Parities(uint32_t coded, uint32_t (&words)[kTrellisMaxParities]) {
    constexpr Trellis kTrellis = TrellisOfBits(kBits);
#pragma unroll
    for (int t = 0; t < kTrellisMaxParities; ++t) {
      words[t] = 0;
#pragma unroll
      for (int i = 0; i < kTrellisMemory; ++i) {
        if (t < kTrellis.parities && (kTrellis.taps[static_cast<size_t>(t)] >> i & 1) != 0) {
          words[t] ^= RotateLeft(coded, i);
        }
      }
    }
  }
  TQ_DEVICE static uint32_t ParityAt(const uint32_t (&words)[kTrellisMaxParities], int p) {
    return (words[0] >> p & 1u) | (words[1] >> p & 1u) << 1 | (words[2] >> p & 1u) << 2;
  }
};

}  // namespace tq::cuda
