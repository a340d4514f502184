// SPDX-License-Identifier: Apache-2.0
// The encoder of rings (codec/cpu/trellis_ring_scalar.h), two by each thread: costs of the 32
// states are 16-bit halves of registers, so a state's step is one addition and one addition with
// minimum for both rings.
#pragma once

#include <utility>

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
  static constexpr int kVectors = kParities / 4;
  static constexpr int kStates = kTrellisStates;
  // Bytes of shared memory per thread: costs [position][vector], decisions [position][ring].
  static constexpr int kCostBytes = kUnitCodes * kVectors * 16;
  static constexpr int kOlderBytes = kUnitCodes * 8;

  uint4* costs;          // this thread's, `threads` apart
  uint2* older;          // the same
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

  // Squared distance to the nearest level of parity kZ.
  template <int kZ, int... kFrees>
  TQ_DEVICE static int NearestSquare(int input, std::integer_sequence<int, kFrees...>) {
    int nearest = kTrellisMaxDistance;
    const auto consider = [&]<int kF>() {
      constexpr int kLevel = TrellisGrid(kBits) * TrellisOfBits(kBits).Level(kF, kZ);
      const int distance = input > kLevel ? input - kLevel : kLevel - input;
      nearest = distance < nearest ? distance : nearest;
    };
    (consider.template operator()<kFrees>(), ...);
    return nearest * nearest;
  }
  template <int... kZs>
  TQ_DEVICE static void Measure(int input, uint32_t (&cost)[kParities],
                                std::integer_sequence<int, kZs...>) {
    int squares[kParities] = {
        NearestSquare<kZs>(input, std::make_integer_sequence<int, kFree>())...};
    int least = squares[0];
#pragma unroll
    for (int z = 1; z < kParities; ++z) least = squares[z] < least ? squares[z] : least;
#pragma unroll
    for (int z = 0; z < kParities; ++z) {
      const int c = (squares[z] - least) >> kTrellisCostShift;
      cost[z] = static_cast<uint32_t>(c < kTrellisMaxCost ? c : kTrellisMaxCost);
    }
  }

  // inputs of both rings at ring position p.
  TQ_DEVICE void SetInputs(int p, int first, int second) const {
    uint32_t a[kParities], b[kParities];
    Measure(first, a, std::make_integer_sequence<int, kParities>());
    Measure(second, b, std::make_integer_sequence<int, kParities>());
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      costs[(p * kVectors + v) * threads] = {
          a[4 * v] | b[4 * v] << 16, a[4 * v + 1] | b[4 * v + 1] << 16,
          a[4 * v + 2] | b[4 * v + 2] << 16, a[4 * v + 3] | b[4 * v + 3] << 16};
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
    uint32_t taken[2] = {};  // states below 16, the others
    LoadCosts(p, c);
#pragma unroll
    for (uint32_t s = 0; s < kStates; ++s) {
      const uint32_t with0 = state[s >> 1] + c[Parity(s)];
      const uint32_t with1 = state[(s | kStates) >> 1] + c[Parity(s | kStates)];
      next[s] = Min16x2(with0, with1);
      taken[s / 16] |= Less16x2(with1, with0) & (0x00010001u << (s % 16));
    }
#pragma unroll
    for (int s = 0; s < kStates; ++s) state[s] = next[s];
    older[p * threads] = {(taken[0] & 0xffffu) | taken[1] << 16,
                          taken[0] >> 16 | (taken[1] & 0xffff0000u)};
  }

  TQ_DEVICE static void StartAt(uint32_t first, uint32_t second, uint32_t (&state)[kStates]) {
#pragma unroll
    for (uint32_t s = 0; s < kStates; ++s) {
      state[s] = (s == first ? 0u : static_cast<uint32_t>(kTrellisOtherStart)) |
                 (s == second ? 0u : static_cast<uint32_t>(kTrellisOtherStart)) << 16;
    }
  }

  // The states whose laps are closed best, after SetInputs of all positions; leaves the decisions
  // of their laps in `older`.
  TQ_DEVICE void Search(uint32_t (&start)[2]) const {
    uint32_t forward[kStates] = {}, backward[kStates] = {};
#pragma unroll 1
    for (int p = 0; p < kUnitCodes; ++p) Advance(p, forward);
#pragma unroll 1
    for (int p = kUnitCodes - 1; p >= 0; --p) Retreat(p, backward);
#pragma unroll
    for (int s = 0; s < kStates; ++s) backward[s] += forward[s];
    uint32_t last[2] = {}, best[2] = {1u << 16, 1u << 16};
#pragma unroll 1
    for (int i = 0; i < kTrellisStarts; ++i) {
      // The next in the order of cost, then state.
      uint32_t key[2] = {~0u, ~0u};
#pragma unroll
      for (uint32_t s = 0; s < kStates; ++s) {
        const uint32_t first = ((backward[s] & 0xffffu) << 5 | s) + 1;
        const uint32_t second = (backward[s] >> 16 << 5 | s) + 1;
        if (first > last[0] && first < key[0]) key[0] = first;
        if (second > last[1] && second < key[1]) key[1] = second;
      }
      last[0] = key[0];
      last[1] = key[1];
      const uint32_t state[2] = {(key[0] - 1) & 31u, (key[1] - 1) & 31u};
      uint32_t lap[kStates];
      StartAt(state[0], state[1], lap);
#pragma unroll 1
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

  // Walks back through one ring. take(p, free, level) is told each value; returns word 0.
  template <typename Input, typename Take>
  TQ_DEVICE uint32_t Trace(int ring, uint32_t start, const Input& input, const Take& take) const {
    uint32_t coded = 0, state = start;
#pragma unroll 1
    for (int p = kUnitCodes - 1; p >= 0; --p) {
      const uint2 words = older[p * threads];
      const uint32_t window = state | ((ring == 0 ? words.x : words.y) >> state & 1u)
                                          << (kTrellisMemory - 1);
      const int8_t* row = levels + Parity(window) * kFree;
      const int x = input(p);
      int nearest = 1 << 15;
      uint32_t free = 0;
#pragma unroll
      for (uint32_t f = 0; f < kFree; ++f) {
        const int difference = x - TrellisGrid(kBits) * row[f];
        const int distance = difference < 0 ? -difference : difference;
        if (distance < nearest) {
          nearest = distance;
          free = f;
        }
      }
      coded |= (window & 1u) << p;
      take(p, free, row[free]);
      state = window >> 1;
    }
    return coded;
  }
};

}  // namespace tq::cuda
