// SPDX-License-Identifier: Apache-2.0
// Codes of a unit to bytes of a tensor-core operand, one struct per codec: register i of Unpack's
// result holds the level bytes of codes 4i .. 4i + 3. docs/format.md, "Words of a unit".
#pragma once

#include "turboquant/codec/cuda/lane_ops.cuh"
#include "turboquant/codec/cuda/level_tables.h"

namespace tq::cuda {

// Level tables of one side. They live in vector registers: in uniform ones every byte permute would
// take another move, so they are read through addresses that differ between lanes.
struct LevelTables {
  uint32_t t[kTrellisTableWords];
};

// What level a byte means: itself (signed), itself + 1/2 (signed), or itself - 128 (unsigned).
enum class LevelKind { kSigned, kSignedHalf, kUnsigned };

struct Turbo8 {
  static constexpr int kWords = 8;  // of a unit
  static constexpr LevelKind kKind = LevelKind::kSigned;
  static constexpr int kTable = 0;  // in the list of level tables
  static constexpr int kTables = 0;
  TQ_DEVICE static void Unpack(const uint32_t* w, uint32_t* r, const LevelTables&) {
#pragma unroll
    for (int i = 0; i < 8; ++i) r[i] = w[i];
  }
};

struct Turbo4 {
  static constexpr int kWords = 4;
  static constexpr LevelKind kKind = LevelKind::kSignedHalf;
  static constexpr int kTable = ScalarTable(4);
  static constexpr int kTables = 2;
  TQ_DEVICE static void Unpack(const uint32_t* w, uint32_t* r, const LevelTables& tables) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const uint32_t s = w[j] & 0x77777777u;
      const uint32_t x = w[j] << 4;
      r[2 * j] = Prmt(tables.t[0], tables.t[1], s) ^ Prmt(w[j], w[j], 0xBA98u);
      r[2 * j + 1] = Prmt(tables.t[0], tables.t[1], s >> 16) ^ Prmt(x, x, 0xBA98u);
    }
  }
};

// Where each nibble's low three bits of word a, b and c are codes, its top bits are a fourth code's
// three bits. Bit 3 of the result's nibbles means nothing.
TQ_DEVICE uint32_t SpareBits(uint32_t a, uint32_t b, uint32_t c) {
  return SelectBits(0x33333333u, SelectBits(0x11111111u, a >> 3, b >> 2), c >> 1);
}

struct Turbo3 {
  static constexpr int kWords = 3;
  static constexpr LevelKind kKind = LevelKind::kSigned;
  static constexpr int kTable = ScalarTable(3);
  static constexpr int kTables = 2;
  TQ_DEVICE static void Unpack(const uint32_t* w, uint32_t* r, const LevelTables& tables) {
    const uint32_t s[4] = {w[0] & 0x77777777u, w[1] & 0x77777777u, w[2] & 0x77777777u,
                           SpareBits(w[0], w[1], w[2]) & 0x77777777u};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      r[2 * j] = Prmt(tables.t[0], tables.t[1], s[j]);
      r[2 * j + 1] = Prmt(tables.t[0], tables.t[1], s[j] >> 16);
    }
  }
};

struct Turbo2 {
  static constexpr int kWords = 2;
  static constexpr LevelKind kKind = LevelKind::kSigned;
  static constexpr int kTable = ScalarTable(2);
  static constexpr int kTables = 1;
  TQ_DEVICE static void Unpack(const uint32_t* w, uint32_t* r, const LevelTables& tables) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const uint32_t s0 = w[h] & 0x33333333u;
      const uint32_t s1 = (w[h] >> 2) & 0x33333333u;
      r[4 * h] = Prmt(tables.t[0], tables.t[0], s0);
      r[4 * h + 1] = Prmt(tables.t[0], tables.t[0], s0 >> 16);
      r[4 * h + 2] = Prmt(tables.t[0], tables.t[0], s1);
      r[4 * h + 3] = Prmt(tables.t[0], tables.t[0], s1 >> 16);
    }
  }
};

// Trellis codes (codec/trellis.h). A value's byte is base[cell] + step[cell] + half[cell], where
// the permute's sign mode turns a gated step or half into 0. Parities of all 32 values at once are
// XORs of rotations of word 0.
template <int kBits>
struct Tcq {
  static constexpr int kWords = kBits;
  static constexpr LevelKind kKind = LevelKind::kUnsigned;
  static constexpr int kTable = TrellisTable(kBits);
  static constexpr int kTables = kBits == 2 ? 4 : 6;

  template <int kParity>
  TQ_DEVICE static uint32_t Parity(uint32_t coded) {
    constexpr uint32_t kTaps = TrellisOfBits(kBits).taps[kParity];
    uint32_t z = 0;
#pragma unroll
    for (int i = 0; i < kTrellisMemory; ++i) {
      if ((kTaps >> i & 1u) != 0) z ^= RotateLeft(coded, i);
    }
    return z;
  }

  // Selectors of the four groups of eight values: bits 0..2 the cell, bit 3 the gate of the step.
  // half: the same with the gate of the half.
  TQ_DEVICE static void Selectors(const uint32_t* w, uint32_t (&step)[4], uint32_t (&half)[4]) {
    const uint32_t z0 = Parity<0>(w[0]), z1 = Parity<1>(w[0]);
    if constexpr (kBits == 4) {
      const uint32_t cell[4] = {w[1], w[2], w[3], SpareBits(w[1], w[2], w[3])};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        step[j] = SelectBits(0x77777777u, cell[j], z1 << (3 - j));
        half[j] = SelectBits(0x77777777u, cell[j], z0 << (3 - j));
      }
    } else {
      // Two bits of groups 0 and 2, and of groups 1 and 3, side by side.
      const uint32_t z2 = Parity<2>(w[0]);
      const uint32_t low = kBits == 3 ? z2 : z1, high = kBits == 3 ? z1 : z0;
      const uint32_t even = SelectBits(0x55555555u, low, high << 1);
      const uint32_t odd = SelectBits(0x55555555u, low >> 1, high);
      if constexpr (kBits == 3) {
        step[0] = SelectBits(0x33333333u, w[1], even << 2);
        step[1] = SelectBits(0x33333333u, w[1] >> 2, odd << 2);
        step[2] = SelectBits(0x33333333u, w[2], even);
        step[3] = SelectBits(0x33333333u, w[2] >> 2, odd);
#pragma unroll
        for (int j = 0; j < 4; ++j) half[j] = SelectBits(0x77777777u, step[j], z0 << (3 - j));
      } else {
        const uint32_t free_even = SelectBits(0x55555555u, w[1], z2 << 1);
        const uint32_t free_odd = SelectBits(0x55555555u, w[1] >> 1, z2);
        step[0] = SelectBits(0x33333333u, free_even, even << 2);
        step[1] = SelectBits(0x33333333u, free_odd, odd << 2);
        step[2] = SelectBits(0x33333333u, free_even >> 2, even);
        step[3] = SelectBits(0x33333333u, free_odd >> 2, odd);
      }
    }
  }

  TQ_DEVICE static void Unpack(const uint32_t* w, uint32_t* r, const LevelTables& tables) {
    uint32_t step[4], half[4];
    Selectors(w, step, half);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const uint32_t cell = step[j] & 0x77777777u;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int shift = 16 * i;
        uint32_t level = Prmt(tables.t[0], tables.t[1], cell >> shift) +
                         Prmt(tables.t[2], tables.t[3], step[j] >> shift);
        if constexpr (kBits != 2) level += Prmt(tables.t[4], tables.t[5], half[j] >> shift);
        r[2 * j + i] = level;
      }
    }
  }
};
using Turbo4Tcq = Tcq<4>;
using Turbo3Tcq = Tcq<3>;
using Turbo2Tcq = Tcq<2>;

// Calls fn with the struct of a codec in tiles.
template <class Fn>
TQ_DEVICE void WithTileCodec(Codec codec, Fn&& fn) {
  switch (codec) {
    case Codec::kTurbo4:
      return fn(Turbo4());
    case Codec::kTurbo3:
      return fn(Turbo3());
    case Codec::kTurbo2:
      return fn(Turbo2());
    case Codec::kTurbo4Tcq:
      return fn(Turbo4Tcq());
    case Codec::kTurbo3Tcq:
      return fn(Turbo3Tcq());
    case Codec::kTurbo2Tcq:
      return fn(Turbo2Tcq());
    default:
      return fn(Turbo8());
  }
}

// LevelTableWord for an index known only when running: device code cannot read the host's tables.
template <int kIndex = 0>
TQ_DEVICE uint32_t LevelTableWordAt(int index) {
  constexpr uint32_t kWord = LevelTableWord(kIndex);
  if constexpr (kIndex + 1 == kLevelTableWords) {
    return kWord;
  } else {
    return index == kIndex ? kWord : LevelTableWordAt<kIndex + 1>(index);
  }
}

}  // namespace tq::cuda
