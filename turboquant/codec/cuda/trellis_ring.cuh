// SPDX-License-Identifier: Apache-2.0
// The encoder of rings (codec/cpu/trellis_ring_scalar.h), two by each thread: costs of the 32
// states are 16-bit halves of registers, so a state's step is one addition and one addition with
// minimum for both rings.
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

// What an encoder wants to know of an input, for every input there is: made once on the device,
// read for every value of every encoding.
inline constexpr int kTrellisInputs = 2 * kTrellisMaxInput + 1;
struct TrellisNearest {
  uint4 costs[kTrellisInputs];  // of up to 8 parities, 16 bits each
  uint2 frees[kTrellisInputs];  // which free bits the nearest level of a parity has, a byte each
};

template <int kBits>
TQ_DEVICE void FillTrellisNearest(int index, TrellisNearest& table) {
  constexpr Trellis kTrellis = TrellisOfBits(kBits);
  constexpr uint32_t kParities = 1u << kTrellis.parities;
  const int input = index - kTrellisMaxInput;
  int squares[kParities];
  uint32_t frees[2] = {};
  int least = 1 << 30;
#pragma unroll
  for (uint32_t z = 0; z < kParities; ++z) {
    int nearest = 1 << 15;
    uint32_t free = 0;
    for (uint32_t f = 0; f < 1u << kTrellis.free_bits(); ++f) {
      const int difference = input - TrellisGrid(kBits) * kTrellis.Level(f, z);
      const int distance = difference < 0 ? -difference : difference;
      if (distance < nearest) {
        nearest = distance;
        free = f;
      }
    }
    frees[z / 4] |= free << (8 * (z % 4));
    nearest = nearest < kTrellisMaxDistance ? nearest : kTrellisMaxDistance;
    squares[z] = nearest * nearest;
    least = squares[z] < least ? squares[z] : least;
  }
  uint32_t costs[4] = {};
#pragma unroll
  for (uint32_t z = 0; z < kParities; ++z) {
    const int c = (squares[z] - least) >> kTrellisCostShift;
    costs[z / 2] |= static_cast<uint32_t>(c < kTrellisMaxCost ? c : kTrellisMaxCost)
                    << (16 * (z % 2));
  }
  table.costs[index] = {costs[0], costs[1], costs[2], costs[3]};
  table.frees[index] = {frees[0], frees[1]};
}

template <int kBits>
struct RingPair {
  static constexpr int kParities = 1 << TrellisOfBits(kBits).parities;
  static constexpr int kFree = 1 << TrellisOfBits(kBits).free_bits();
  static constexpr int kVectors = kParities / 4;
  static constexpr int kStates = kTrellisStates;

  const TrellisNearest& table;
  // This thread's, `threads` apart: costs [position][vector]; of the last lap, the decisions of
  // both rings in place of the first costs of a position, which nobody needs any more.
  uint4* costs;
  const int8_t* levels;  // [parity][free] in shared memory
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

  // inputs of both rings at ring position p.
  TQ_DEVICE void SetInputs(int p, int first, int second) const {
    const uint4 a = table.costs[first + kTrellisMaxInput];
    const uint4 b = table.costs[second + kTrellisMaxInput];
    const auto both = [](uint32_t x, uint32_t y, uint32_t half) {
      return Prmt(x, y, half == 0 ? 0x5410u : 0x7632u);
    };
    uint4* to = costs + p * kVectors * threads;
    to[0] = {both(a.x, b.x, 0), both(a.x, b.x, 1), both(a.y, b.y, 0), both(a.y, b.y, 1)};
    if constexpr (kVectors == 2) {
      to[threads] = {both(a.z, b.z, 0), both(a.z, b.z, 1), both(a.w, b.w, 0), both(a.w, b.w, 1)};
    }
  }
  TQ_DEVICE void LoadCosts(int p, uint32_t (&c)[kParities]) const {
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      const uint4 x = costs[(p * kVectors + v) * threads];
      c[4 * v] = x.x;
      c[4 * v + 1] = x.y;
      c[4 * v + 2] = x.z;
      c[4 * v + 3] = x.w;
    }
  }

  TQ_DEVICE void Advance(int p, uint32_t (&state)[kStates]) const {
    uint32_t c[kParities], next[kStates];
    LoadCosts(p, c);
#pragma unroll
    for (uint32_t s = 0; s < kStates; ++s) {
      next[s] = AddMin16x2(state[(s | kStates) >> 1], c[Parity(s | kStates)],
                           state[s >> 1] + c[Parity(s)]);
    }
#pragma unroll
    for (int s = 0; s < kStates; ++s) state[s] = next[s];
  }
  TQ_DEVICE void Retreat(int p, uint32_t (&state)[kStates]) const {
    uint32_t c[kParities], before[kStates];
    LoadCosts(p, c);
#pragma unroll
    for (uint32_t s = 0; s < kStates; ++s) {
      before[s] = AddMin16x2(state[(2 * s + 1) % kStates], c[Parity(2 * s + 1)],
                             state[2 * s % kStates] + c[Parity(2 * s)]);
    }
#pragma unroll
    for (int s = 0; s < kStates; ++s) state[s] = before[s];
  }
  // Advance that keeps which predecessor was taken: bit s of each ring's word.
  TQ_DEVICE void AdvanceAndKeep(int p, uint32_t (&state)[kStates]) const {
    uint32_t c[kParities], next[kStates];
    uint2 taken = {};
    LoadCosts(p, c);
#pragma unroll
    for (uint32_t s = 0; s < kStates; ++s) {
      bool keeps[2];
      next[s] = Min16x2(state[s >> 1] + c[Parity(s)],
                        state[(s | kStates) >> 1] + c[Parity(s | kStates)], keeps);
      if (!keeps[0]) taken.x |= 1u << s;
      if (!keeps[1]) taken.y |= 1u << s;
    }
#pragma unroll
    for (int s = 0; s < kStates; ++s) state[s] = next[s];
    *Decisions(p) = taken;
  }
  TQ_DEVICE uint2* Decisions(int p) const {
    return reinterpret_cast<uint2*>(costs + p * kVectors * threads);
  }

  TQ_DEVICE static void StartAt(uint32_t first, uint32_t second, uint32_t (&state)[kStates]) {
#pragma unroll
    for (uint32_t s = 0; s < kStates; ++s) {
      state[s] = (s == first ? 0u : static_cast<uint32_t>(kTrellisOtherStart)) |
                 (s == second ? 0u : static_cast<uint32_t>(kTrellisOtherStart)) << 16;
    }
  }

  // The states whose laps are closed best, after SetInputs of all positions; leaves the decisions
  // of their laps.
  TQ_DEVICE void Search(uint32_t (&start)[2]) const {
    uint32_t forward[kStates] = {}, backward[kStates] = {};
#pragma unroll 2
    for (int p = 0; p < kUnitCodes; ++p) Advance(p, forward);
#pragma unroll 2
    for (int p = kUnitCodes - 1; p >= 0; --p) Retreat(p, backward);
#pragma unroll
    for (int s = 0; s < kStates; ++s) backward[s] += forward[s];
    uint32_t next[2] = {}, best[2] = {1u << 16, 1u << 16};
#pragma unroll 1
    for (int i = 0; i < kTrellisStarts; ++i) {
      // The next in the order of cost, then state: keys below next[ring] are done with.
      uint32_t above[2] = {~0u, ~0u};
#pragma unroll
      for (uint32_t s = 0; s < kStates; ++s) {
        above[0] = AddMin((backward[s] & 0xffffu) * kStates + s, 0u - next[0], above[0]);
        above[1] = AddMin((backward[s] >> 16) * kStates + s, 0u - next[1], above[1]);
      }
      next[0] += above[0] + 1;
      next[1] += above[1] + 1;
      const uint32_t state[2] = {(next[0] - 1) % kStates, (next[1] - 1) % kStates};
      uint32_t lap[kStates];
      StartAt(state[0], state[1], lap);
#pragma unroll 2
      for (int p = 0; p < kUnitCodes; ++p) Advance(p, lap);
      uint32_t cost[2] = {};
#pragma unroll
      for (uint32_t s = 0; s < kStates; ++s) {
        if (s == state[0]) cost[0] = lap[s] & 0xffffu;
        if (s == state[1]) cost[1] = lap[s] >> 16;
      }
#pragma unroll
      for (int ring = 0; ring < 2; ++ring) {
        if (cost[ring] < best[ring]) {
          best[ring] = cost[ring];
          start[ring] = state[ring];
        }
      }
    }
    uint32_t lap[kStates];
    StartAt(start[0], start[1], lap);
#pragma unroll 1
    for (int p = 0; p < kUnitCodes; ++p) AdvanceAndKeep(p, lap);
  }

  // Walks back through both rings: the coded bits, a ring's word 0.
  TQ_DEVICE void Trace(const uint32_t (&start)[2], uint32_t (&coded)[2]) const {
    uint32_t state[2] = {start[0], start[1]};
    coded[0] = coded[1] = 0;
#pragma unroll 4
    for (int p = kUnitCodes - 1; p >= 0; --p) {
      const uint2 words = *Decisions(p);
      const uint32_t older[2] = {words.x >> state[0] & 1u, words.y >> state[1] & 1u};
#pragma unroll
      for (int ring = 0; ring < 2; ++ring) {
        coded[ring] |= (state[ring] & 1u) << p;
        state[ring] = (state[ring] | older[ring] << (kTrellisMemory - 1)) >> 1;
      }
    }
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
  // The free bits and the level of the value at a position.
  TQ_DEVICE uint32_t Free(int input, uint32_t parity) const {
    const uint2 frees = table.frees[input + kTrellisMaxInput];
    return (parity < 4 ? frees.x : frees.y) >> (parity % 4 * 8) & 255u;
  }
  TQ_DEVICE int8_t Level(uint32_t free, uint32_t parity) const {
    return levels[parity * kFree + free];
  }
};

}  // namespace tq::cuda
