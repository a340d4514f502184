// SPDX-License-Identifier: Apache-2.0
// Products of a step's tiles with the queries and with the weights, on integer tensor cores.
// Everything here is unrolled: arrays are registers.
//
// Fragments (PTX, m16n8k32): lane = 4g + t. A: rows g and g + 8, bytes 4t .. 4t + 3 of each half of
// k. Columns 2i and 2i + 1 of B and C are the low and high byte of query row i: a product is
// 256 * high + low, exact in 32 bits.
#pragma once

#include "turboquant/codec/cuda/tile_codecs.cuh"
#include "turboquant/codec/page_layout.h"

namespace tq::cuda {

template <int kDim>
struct Tile {
  static constexpr TileLayout kLayout = MakeTileLayout(kDim);
  static constexpr int kTokens = kLayout.tokens;
  static constexpr int kHalves = kTokens / 32;  // of 32 tokens
  static constexpr int kUnits = kLayout.units;  // per lane and side
  static constexpr int kPiece = kLayout.piece_bytes;
  static constexpr int kRegisters = kDim / 16;  // a lane's part of one token's key, four codes each
  static constexpr int kBlocks = kDim / 16;     // of 16 dims of V
};

// The fewest units that fill whole pieces, and their words.
template <int kWords, int kPiece>
inline constexpr int kGroupUnits = kWords * 4 % kPiece == 0   ? 1
                                   : kWords * 8 % kPiece == 0 ? 2
                                                              : 4;
template <int kWords, int kPiece>
struct UnitGroup {
  static constexpr int kUnits = kGroupUnits<kWords, kPiece>;
  static constexpr int kPieces = kUnits * kWords * 4 / kPiece;
  uint32_t words[kUnits * kWords];

  // `side`: one side's codes of a tile in shared memory.
  TQ_DEVICE void Load(const std::byte* side, int lane, int first_unit) {
    const std::byte* from = side + first_unit * kWords * 4 * 32 + lane * kPiece;
#pragma unroll
    for (int p = 0; p < kPieces; ++p) {
      if constexpr (kPiece == 16) {
        const uint4 v = *reinterpret_cast<const uint4*>(from + p * 32 * kPiece);
        words[4 * p] = v.x;
        words[4 * p + 1] = v.y;
        words[4 * p + 2] = v.z;
        words[4 * p + 3] = v.w;
      } else {
        const uint2 v = *reinterpret_cast<const uint2*>(from + p * 32 * kPiece);
        words[2 * p] = v.x;
        words[2 * p + 1] = v.y;
      }
    }
  }
};

// What a product of bytes lacks to be one of levels, for factors that add up to `sum`.
template <class C>
TQ_DEVICE int32_t LevelShift(int32_t sum) {
  return C::kKind == LevelKind::kSignedHalf ? sum >> 1
         : C::kKind == LevelKind::kUnsigned ? -128 * sum
                                            : 0;
}

template <bool kSignedA, bool kSignedB>
TQ_DEVICE void MmaBytesOf(int32_t (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                          uint32_t b0, uint32_t b1) {
  if constexpr (kSignedA && kSignedB) {
    MmaS8S8(c, a0, a1, a2, a3, b0, b1);
  } else if constexpr (kSignedA) {
    MmaS8U8(c, a0, a1, a2, a3, b0, b1);
  } else if constexpr (kSignedB) {
    MmaU8S8(c, a0, a1, a2, a3, b0, b1);
  } else {
    MmaU8U8(c, a0, a1, a2, a3, b0, b1);
  }
}
// c += bytes of levels times B, signed for queries and unsigned for weights.
template <class C, bool kWeights>
TQ_DEVICE void MmaLevels(int32_t (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                         uint32_t b0, uint32_t b1) {
  MmaBytesOf<C::kKind != LevelKind::kUnsigned, !kWeights>(c, a0, a1, a2, a3, b0, b1);
}

// x[n][at + 4 h + i] = (levels of token 32 h + g + 8 i) . (16-bit query row t of column set n), for
// the tokens of one tile. q: B operands, [set][register]; q_sum: the sum of the row.
template <class C, int kDim, int kSets, int kScores>
TQ_DEVICE void KeyProducts(const std::byte* codes, int lane, const LevelTables& tables,
                           const uint32_t (&q)[kSets][kDim / 16], const int32_t (&q_sum)[kSets],
                           int at, float (&x)[kSets][kScores]) {
  using T = Tile<kDim>;
  constexpr int kPerToken = T::kRegisters;
  UnitGroup<C::kWords, T::kPiece> group;
  uint32_t r[T::kUnits * 8];
#pragma unroll
  for (int m = 0; m < T::kTokens / 16; ++m) {
    // Units whose codes this m-tile is the first to need. The loop has a constant length, or it
    // would not be unrolled.
    constexpr int kMostUnits = kDim % 64 == 0 ? kDim / 64 : kDim / 64 + 1;
#pragma unroll
    for (int i = 0; i < kMostUnits; ++i) {
      const int u = (m * kDim + 63) / 64 + i;
      if (u >= ((m + 1) * kDim + 63) / 64) continue;
      if (u % group.kUnits == 0) group.Load(codes, lane, u);
      C::Unpack(group.words + u % group.kUnits * C::kWords, r + 8 * u, tables);
    }
    const uint32_t* upper = r + 2 * m * kPerToken;
    const uint32_t* lower = upper + kPerToken;
#pragma unroll
    for (int n = 0; n < kSets; ++n) {
      const int32_t start = LevelShift<C>(q_sum[n]);
      int32_t c[4] = {start, 0, start, 0};
#pragma unroll
      for (int k = 0; k + 1 < kPerToken; k += 2) {
        MmaLevels<C, false>(c, upper[k], lower[k], upper[k + 1], lower[k + 1], q[n][k],
                            q[n][k + 1]);
      }
      if constexpr (kPerToken % 2 == 1) {
        if constexpr (C::kKind == LevelKind::kUnsigned) {
          MmaU8S8K16(c, upper[kPerToken - 1], lower[kPerToken - 1], q[n][kPerToken - 1]);
        } else {
          MmaS8S8K16(c, upper[kPerToken - 1], lower[kPerToken - 1], q[n][kPerToken - 1]);
        }
      }
      x[n][at + 2 * m] = static_cast<float>(c[1] * 256 + c[0]);
      x[n][at + 2 * m + 1] = static_cast<float>(c[3] * 256 + c[2]);
    }
  }
}

// B operands of the weights: p[h][2] for each 32 tokens, of one column set.
template <int kHalves>
struct Weights {
  uint32_t b[kHalves][2];
};

// o[n][2 b + e] += gain[n] * (weights . levels of dim 16 b + g + 8 e), over a step
// of kHalves * 32 tokens that lie in kHalves / Tile::kHalves tiles, tile_bytes apart.
template <class C, int kDim, int kHalves, int kSets>
TQ_DEVICE void ValueProducts(const std::byte* codes, int tile_bytes, int lane,
                             const LevelTables& tables, const Weights<kHalves> (&weights)[kSets],
                             const float (&gain)[kSets], float (&o)[kSets][kDim / 8]) {
  using T = Tile<kDim>;
  constexpr int kTiles = kHalves / T::kHalves;
  int32_t start[kSets] = {};
  if constexpr (C::kKind != LevelKind::kSigned) {  // a multiple of the sum of the weights
#pragma unroll
    for (int n = 0; n < kSets; ++n) {
      int32_t ones[4] = {};
#pragma unroll
      for (int h = 0; h < kHalves; ++h) {
        MmaS8U8(ones, 0x01010101u, 0x01010101u, 0x01010101u, 0x01010101u, weights[n].b[h][0],
                weights[n].b[h][1]);
      }
      start[n] = LevelShift<C>(ones[1] * 256 + ones[0]);
    }
  }
  UnitGroup<C::kWords, T::kPiece> group[kTiles];
  uint32_t r[kTiles][8];
#pragma unroll
  for (int b = 0; b < T::kBlocks; ++b) {
    int32_t c[kSets][4];
#pragma unroll
    for (int n = 0; n < kSets; ++n) {
      c[n][0] = c[n][2] = start[n];
      c[n][1] = c[n][3] = 0;
    }
#pragma unroll
    for (int h = 0; h < kHalves; ++h) {
      constexpr int kPer = T::kHalves;
      const int tile = h / kPer;
      const int m_tile = b * kPer + h % kPer;
      const int u = m_tile / 2;
      if (m_tile % 2 == 0) {
        if (u % group[tile].kUnits == 0) group[tile].Load(codes + tile * tile_bytes, lane, u);
        C::Unpack(group[tile].words + u % group[tile].kUnits * C::kWords, r[tile], tables);
      }
      const uint32_t* a = r[tile] + m_tile % 2 * 4;
#pragma unroll
      for (int n = 0; n < kSets; ++n) {
        MmaLevels<C, true>(c[n], a[0], a[1], a[2], a[3], weights[n].b[h][0], weights[n].b[h][1]);
      }
    }
#pragma unroll
    for (int n = 0; n < kSets; ++n) {
      o[n][2 * b] = FusedMulAdd(static_cast<float>(c[n][1] * 256 + c[n][0]), gain[n], o[n][2 * b]);
      o[n][2 * b + 1] =
          FusedMulAdd(static_cast<float>(c[n][3] * 256 + c[n][2]), gain[n], o[n][2 * b + 1]);
    }
  }
}

}  // namespace tq::cuda
