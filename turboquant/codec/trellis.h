// SPDX-License-Identifier: Apache-2.0
// The trellis codes of turbo4_tcq, turbo3_tcq and turbo2_tcq: a convolutional code whose level
// index is {uncoded bits, parities of the last six coded bits}, closed into a ring over the 32
// codes of a unit. So parities are XORs of rotations of one word, and a unit needs nothing from its
// neighbours. This file is the definition of what a unit's words mean; docs/format.md draws it.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

#include "turboquant/codec/codec.h"

namespace tq {

inline constexpr int kTrellisMemory = 6;  // coded bits that a parity may look at
inline constexpr int kTrellisStates = 1 << (kTrellisMemory - 1);
inline constexpr int kTrellisMaxParities = 3;

// Level of a value = base[cell] + (gate of step ? 0 : step[cell]) + (gate of half ? 0 : half[cell])
// - 128, in bytes that never carry. Steps and halves are below 128: a byte permute (PRMT, PSHUFB)
// whose selector has the gate as its top bit then makes the zero by itself.
struct Trellis {
  uint32_t id;   // written into files; a reader without it refuses
  int bits;      // per value: one coded, the others uncoded
  int parities;  // 3; 2 at 4 bits
  std::array<uint8_t, kTrellisMaxParities>
      taps;  // of parity t: bit i is the coded bit i places back
  std::array<uint8_t, 8> base;
  std::array<uint8_t, 8> step;
  std::array<uint8_t, 8> half;  // all zero at 2 bits, which have no second gate
  float sigma;                  // deviation of the Gaussian that the levels are for

  constexpr int free_bits() const { return bits - 1; }
  constexpr int levels() const { return 1 << (free_bits() + parities); }
  constexpr int Level(uint32_t free, uint32_t parity) const {
    const uint32_t cell = bits == 2   ? free | (parity >> 1 & 2u) | (parity << 1 & 4u)
                          : bits == 3 ? free | (parity & 4u)
                                      : free;
    const bool no_step = bits == 2 ? parity & 1u : parity & 2u;
    const bool no_half = bits == 2 || (parity & 1u);
    return base[cell] + (no_step ? 0 : step[cell]) + (no_half ? 0 : half[cell]) - 128;
  }
  // Parities of a window: bit i of it is the coded bit i places back.
  constexpr uint32_t ParityOf(uint32_t window) const {
    uint32_t parity = 0;
    for (int t = 0; t < parities; ++t) {
      parity |= static_cast<uint32_t>(std::popcount(window & taps[static_cast<size_t>(t)]) & 1)
                << t;
    }
    return parity;
  }
};

// Where code n of a unit stands in the ring: eight nibbles, their bits taken together.
constexpr int RingPosition(int n) { return 4 * (n % 8) + n / 8; }
constexpr int CodeAt(int p) { return p % 4 * 8 + p / 4; }

// Bit t of the result: parity t of the value at ring position p, `coded` being word 0 of its unit.
constexpr uint32_t RingParity(const Trellis& trellis, uint32_t coded, int p) {
  // Bit i of the window is bit p - i of the ring.
  uint32_t window = 0;
  for (int i = 0; i < kTrellisMemory; ++i) window |= (coded >> ((p - i) & 31) & 1u) << i;
  return trellis.ParityOf(window);
}

// The uncoded bits of code 8 j + m in words 1 .. bits - 1 of its unit, which must be zero before.
// Word: uint32_t, or a vector of them, one of each unit.
template <class Word>
constexpr void SetFreeBits(int bits, Word* words, int j, int m, const Word& free) {
  switch (bits) {
    case 2:
      words[1] |= free << (4 * m + j);
      break;
    case 3:
      words[1 + j / 2] |= free << (4 * m + j % 2 * 2);
      break;
    default:  // codes 24 .. 31 are spread over the spare top bits of the three words' nibbles
      if (j < 3) {
        words[1 + j] |= free << (4 * m);
      } else {
        for (int e = 0; e < 3; ++e) words[1 + e] |= (free >> e & 1u) << (4 * m + 3);
      }
  }
}
constexpr uint32_t GetFreeBits(int bits, const uint32_t* words, int n) {
  const int j = n / 8, m = n % 8;
  switch (bits) {
    case 2:
      return words[1] >> (4 * m + j) & 1u;
    case 3:
      return words[1 + j / 2] >> (4 * m + j % 2 * 2) & 3u;
    default: {
      if (j < 3) return words[1 + j] >> (4 * m) & 7u;
      uint32_t free = 0;
      for (int e = 0; e < 3; ++e) free |= (words[1 + e] >> (4 * m + 3) & 1u) << e;
      return free;
    }
  }
}

// The level of code n of a unit.
constexpr int UnitLevel(const Trellis& trellis, const uint32_t* words, int n) {
  return trellis.Level(GetFreeBits(trellis.bits, words, n),
                       RingParity(trellis, words[0], RingPosition(n)));
}

inline constexpr std::array kTrellises = {
#include "turboquant/codec/tables/trellises.inc"
};

constexpr const Trellis& TrellisOfBits(int bits) {
  return kTrellises[static_cast<size_t>(bits - 2)];
}

}  // namespace tq
