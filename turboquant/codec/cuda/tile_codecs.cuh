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
  uint32_t t0, t1;
};

struct Turbo8 {
  static constexpr int kWords = 8;            // of a unit
  static constexpr bool kHalfLevels = false;  // levels are bytes, not bytes + 1/2
  TQ_DEVICE static void Unpack(const uint32_t* w, uint32_t* r, const LevelTables&) {
#pragma unroll
    for (int i = 0; i < 8; ++i) r[i] = w[i];
  }
};

struct Turbo4 {
  static constexpr int kWords = 4;
  static constexpr bool kHalfLevels = true;
  TQ_DEVICE static void Unpack(const uint32_t* w, uint32_t* r, const LevelTables& t) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const uint32_t s = w[j] & 0x77777777u;
      const uint32_t x = w[j] << 4;
      r[2 * j] = Prmt(t.t0, t.t1, s) ^ Prmt(w[j], w[j], 0xBA98u);
      r[2 * j + 1] = Prmt(t.t0, t.t1, s >> 16) ^ Prmt(x, x, 0xBA98u);
    }
  }
};

// The selectors of a 3-bit unit's four groups of eight codes.
TQ_DEVICE void Selectors3(const uint32_t* w, uint32_t (&s)[4]) {
  s[0] = w[0] & 0x77777777u;
  s[1] = w[1] & 0x77777777u;
  s[2] = w[2] & 0x77777777u;
  s[3] = SelectBits(0x33333333u, SelectBits(0x11111111u, w[0] >> 3, w[1] >> 2), w[2] >> 1) &
         0x77777777u;
}

struct Turbo3 {
  static constexpr int kWords = 3;
  static constexpr bool kHalfLevels = false;
  TQ_DEVICE static void Unpack(const uint32_t* w, uint32_t* r, const LevelTables& t) {
    uint32_t s[4];
    Selectors3(w, s);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      r[2 * j] = Prmt(t.t0, t.t1, s[j]);
      r[2 * j + 1] = Prmt(t.t0, t.t1, s[j] >> 16);
    }
  }
};

struct Turbo2 {
  static constexpr int kWords = 2;
  static constexpr bool kHalfLevels = false;
  TQ_DEVICE static void Unpack(const uint32_t* w, uint32_t* r, const LevelTables& t) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const uint32_t s0 = w[h] & 0x33333333u;
      const uint32_t s1 = (w[h] >> 2) & 0x33333333u;
      r[4 * h] = Prmt(t.t0, t.t0, s0);
      r[4 * h + 1] = Prmt(t.t0, t.t0, s0 >> 16);
      r[4 * h + 2] = Prmt(t.t0, t.t0, s1);
      r[4 * h + 3] = Prmt(t.t0, t.t0, s1 >> 16);
    }
  }
};

// LevelTableWord for an index known only when running: device code cannot read kCodebooks itself.
template <int kIndex = 0>
TQ_DEVICE uint32_t LevelTableWordAt(int index) {
  constexpr uint32_t kWord = LevelTableWord(kIndex);
  if constexpr (kIndex + 1 == kLevelTableWords) {
    return kWord;
  } else {
    return index == kIndex ? kWord : LevelTableWordAt<kIndex + 1>(index);
  }
}

// Position in LevelTableWord's list of the tables of a codec with W words per unit.
template <class C>
inline constexpr int kTableOf = C::kWords == 8 ? 0 : 2 * (C::kWords - 2);

}  // namespace tq::cuda
