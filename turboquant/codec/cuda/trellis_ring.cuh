// SPDX-License-Identifier: Apache-2.0
// Laps over rings (codec/cpu/trellis_ring_scalar.h), two by each thread: metrics of the 32 states
// are 16-bit halves of registers, so a state's step is one addition and one addition with minimum
// for both rings. Loops stay loops: unrolled over a ring, a lap and all around it were 229 KB of
// code and took twice as long, waiting for instructions.
#pragma once

#include "turboquant/codec/cuda/lane_ops.cuh"
#include "turboquant/codec/cuda/ring_layout.h"
#include "turboquant/codec/cuda/ring_words.cuh"
#include "turboquant/codec/cuda/tile_codecs.cuh"
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

// Is the oldest bit of a window in the last parity alone?
constexpr bool OldestBitIsInLastParity(const Trellis& trellis) {
  const uint32_t last = 1u << (trellis.parities - 1);
  for (uint32_t w = 0; w < kTrellisStates; ++w) {
    if ((trellis.ParityOf(w) ^ trellis.ParityOf(w | kTrellisStates)) != last) return false;
  }
  return true;
}

template <int kBits>
struct RingPair {
  static_assert(OldestBitIsInLastParity(TrellisOfBits(kBits)));
  static constexpr int kParities = 1 << TrellisOfBits(kBits).parities;
  static constexpr uint32_t kStates = kTrellisStates;
  static constexpr uint32_t kBothStates = (kStates - 1) * 0x10001u;
  // Metrics have one bit less below the cost than elsewhere: all paths to a state have the newest
  // bit of the state at the last mark in common.
  static constexpr int kShift = kTrellisMetricShift - 1;
  static_assert(kShift == kTrellisMarkStep);
  static constexpr uint32_t kBothOrigins = ((1u << kShift) - 1) * 0x10001u;
  TQ_DEVICE static constexpr uint32_t BothOrigins(uint32_t state) {
    return (state >> 1) * 0x10001u;
  }

  using Metrics = uint32_t[kTrellisStates];

  const std::byte* costs;  // shared: bytes [input][parity]
  uint32_t words;          // where in shared memory this thread's are, `stride` bytes apart
  int stride;

  TQ_DEVICE uint32_t MarkAt(int mark) const {
    return words + static_cast<uint32_t>(RingWordOfMark(mark) * stride);
  }

  TQ_DEVICE static constexpr uint32_t Parity(uint32_t window) {
    constexpr uint64_t kZ0 = ParityBits(kBits, 0), kZ1 = ParityBits(kBits, 1),
                       kZ2 = ParityBits(kBits, 2);
    return static_cast<uint32_t>((kZ0 >> window & 1u) | (kZ1 >> window & 1u) << 1 |
                                 (kZ2 >> window & 1u) << 2);
  }

  // Costs of both rings' inputs, given where they lie: as metrics have them where the last parity
  // is 0, else to be shifted.
  TQ_DEVICE void LoadCosts(uint32_t first_offset, uint32_t second_offset,
                           uint32_t (&c)[kParities]) const {
    const auto* a = reinterpret_cast<const uint32_t*>(costs + first_offset);
    const auto* b = reinterpret_cast<const uint32_t*>(costs + second_offset);
    uint32_t first[kParities / 4], second[kParities / 4];
    if constexpr (kParities == 8) {
      const uint2 x = *reinterpret_cast<const uint2*>(a), y = *reinterpret_cast<const uint2*>(b);
      first[0] = x.x, first[1] = x.y;
      second[0] = y.x, second[1] = y.y;
    } else {
      first[0] = *a;
      second[0] = *b;
    }
#pragma unroll
    for (uint32_t z = 0; z < kParities; ++z) {  // bytes whose sign is the zero between them
      const uint32_t byte = z % 4;
      c[z] = Prmt(first[z / 4], second[z / 4], 0xc480u + byte * 0x1111u);
      if (z < kParities / 2) c[z] <<= kShift;
    }
  }

  // Where a state's metric is after some steps since the last mark: a step puts two states where
  // their predecessors were, so that nothing moves before the next mark.
  TQ_DEVICE static constexpr uint32_t Slot(uint32_t state, int steps) {
    return (state >> steps | state << (kTrellisMemory - 1 - steps)) & (kStates - 1);
  }
  TQ_DEVICE static void Advance(const uint32_t (&c)[kParities], int steps, Metrics& metrics) {
#pragma unroll
    for (uint32_t a = 0; a < kStates / 2; ++a) {
      uint32_t& low = metrics[Slot(a, steps)];
      uint32_t& high = metrics[Slot(a + kStates / 2, steps)];
      uint32_t next[2];
#pragma unroll
      for (uint32_t i = 0; i < 2; ++i) {
        // Of both windows one has the last parity at 0; the other one's cost is shifted and added
        // in one instruction.
        const uint32_t from_low = Parity(2 * a + i), from_high = Parity(2 * a + i + kStates);
        next[i] = from_low < kParities / 2
                      ? AddMin16x2(low, c[from_low], high + (c[from_high] << kShift))
                      : AddMin16x2(high, c[from_high], low + (c[from_low] << kShift));
      }
      low = next[0];
      high = next[1];
    }
  }

  // Of both rings: the least metric, with the whole state below the cost.
  TQ_DEVICE static uint32_t Least(const Metrics& metrics) {
    uint32_t least[4];  // by state mod 4
#pragma unroll
    for (int i = 0; i < 4; ++i) least[i] = metrics[i];
#pragma unroll
    for (uint32_t s = 4; s < kStates; ++s) {
      least[s % 4] = AddMin16x2(metrics[s], 0, least[s % 4]);
    }
    const uint32_t even = AddMin16x2(least[0], 0, least[2]),
                   odd = AddMin16x2(least[1], 0, least[3]);
    return AddMin16x2(2 * even, 0, 2 * odd + 0x10001u);
  }

  // Metrics before the first lap.
  TQ_DEVICE static void Start(Metrics& metrics) {
#pragma unroll
    for (uint32_t s = 0; s < kStates; ++s) metrics[s] = BothOrigins(s);
  }
  // To the next mark, through the positions of a word. Leaves the origins of all states there, and
  // metrics that begin at it. offsets: of costs of both rings.
  TQ_DEVICE void AdvanceToMark(int mark, const HalfWords (&offsets)[2], Metrics& metrics) const {
#pragma unroll
    for (int i = 0; i < kTrellisMarkStep; ++i) {
      uint32_t c[kParities];
      LoadCosts(HalfOf(offsets[0], i), HalfOf(offsets[1], i), c);
      Advance(c, i, metrics);
    }
    Metrics at_mark;
#pragma unroll
    for (uint32_t s = 0; s < kStates; ++s) at_mark[s] = metrics[Slot(s, kTrellisMarkStep)];
    std::byte* to = SharedMemory() + MarkAt(mark);
#pragma unroll
    for (uint32_t s = 0; s < kStates; ++s) {
      if ((s & kNibbleStates) != 0) continue;
      const uint32_t low = Prmt(at_mark[s], at_mark[s + 16], 0x6420u),
                     high = Prmt(at_mark[s + 4], at_mark[s + 20], 0x6420u);
      *reinterpret_cast<uint32_t*>(to + static_cast<int>(s) * stride) =
          SelectBits(0x0f0f0f0fu, low, high << 4);
    }
#pragma unroll
    for (uint32_t s = 0; s < kStates; ++s) {
      metrics[s] = SelectBits(kBothOrigins, BothOrigins(s), at_mark[s]);
    }
  }

  // From one lap to the next; offsets_of(w).of are those of a word. Gives the ends of both rings.
  template <typename Fn>
  TQ_DEVICE uint32_t Lap(const Fn& offsets_of, Metrics& metrics) const {
    static_assert(kTrellisMarkCount == kRingWordCount);
#pragma unroll 1
    for (int mark = 0; mark < kTrellisMarkCount; ++mark) {
      AdvanceToMark(mark, offsets_of(mark).of, metrics);
    }
    const uint32_t least = Least(metrics), least_cost = (least & ~kBothStates) >> 1;
#pragma unroll
    for (uint32_t s = 0; s < kStates; ++s) metrics[s] -= least_cost;
    return least & kBothStates;
  }

  // The coded bits of both rings, from the end of the lap back. A closed one is followed again, to
  // the same bits, as long as the other one is open.
  TQ_DEVICE void Follow(uint32_t ends, uint32_t (&coded)[2]) const {
    constexpr uint32_t kOlderOfWord = kWordStates >> 1, kOlderOfNibble = kNibbleStates >> 1;
    static_assert((kWordStates & 1) != 0);
    uint32_t end[2] = {ends & 0xffffu, ends >> 16};
#pragma unroll 1
    for (int i = 0; i < kTrellisTries; ++i) {
      // On the way a state is its newest bit, as far as this moves the word that it is in, and the
      // others, as they were read: with what lies above them. The newest one is the oldest of the
      // state before, and so all bits of the path but those of the end are such nibbles.
      uint32_t older[2], word[2], oldest[2], reversed[2] = {};
#pragma unroll
      for (int ring = 0; ring < 2; ++ring) {
        older[ring] = end[ring] >> 1;
        word[ring] =
            MulAdd(end[ring] & 1u, static_cast<uint32_t>(stride), MarkAt(kTrellisMarkCount - 1));
      }
#pragma unroll
      for (int mark = kTrellisMarkCount - 1; mark >= 0; --mark) {
#pragma unroll
        for (int ring = 0; ring < 2; ++ring) {
          const uint32_t at =
              MulAdd(older[ring] & kOlderOfWord, static_cast<uint32_t>(2 * stride), word[ring]);
          const auto nibbles = *reinterpret_cast<const uint32_t*>(SharedMemory() + at);
          oldest[ring] = older[ring] & 8u;
          if (mark > 0) {
            word[ring] = MulAdd(oldest[ring], static_cast<uint32_t>(stride / 8), MarkAt(mark - 1));
          }
          older[ring] = nibbles >> MulAdd(older[ring] & kOlderOfNibble, 2, 8u * ring);
          reversed[ring] = ShiftIn(older[ring], reversed[ring], kTrellisMarkStep);
        }
      }
      bool closed = true;
#pragma unroll
      for (int ring = 0; ring < 2; ++ring) {
        coded[ring] = ReverseBits(reversed[ring] << (kTrellisMemory - 1) | end[ring]);
        const uint32_t start = (older[ring] & 15u) << 1 | oldest[ring] >> 3;
        closed = closed && start == end[ring];
        end[ring] = start;
      }
      if (closed) break;
    }
  }
};

// Parities of a ring's positions: bit p of word t is parity t of the value there.
template <int kBits>
struct RingParities {
  static constexpr int kCount = TrellisOfBits(kBits).parities;
  uint32_t words[kCount];

  TQ_DEVICE explicit RingParities(uint32_t coded) {
    words[0] = Tcq<kBits>::template Parity<0>(coded);
    words[1] = Tcq<kBits>::template Parity<1>(coded);
    if constexpr (kCount == 3) words[2] = Tcq<kBits>::template Parity<2>(coded);
  }
  // Of positions 4 w .. 4 w + 3, a byte each.
  TQ_DEVICE uint32_t Bytes(int w) const {
    uint32_t bytes = 0;
#pragma unroll
    for (int t = 0; t < kCount; ++t) {
      bytes |= ((words[t] >> (4 * w) & 15u) * 0x00204081u & 0x01010101u) << t;
    }
    return bytes;
  }
};

}  // namespace tq::cuda
