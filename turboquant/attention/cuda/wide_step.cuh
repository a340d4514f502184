// SPDX-License-Identifier: Apache-2.0
// One step of a wide kernel: two warps, more columns than one warp's registers hold. Each warp
// scores half of the step's tokens against all query rows and then adds up half of the dims for
// all of them, so that codes are unpacked once. Between the two the warps exchange weights through
// shared memory; queries stay there.
#pragma once

#include "turboquant/attention/cuda/decode_memory.h"
#include "turboquant/attention/cuda/decode_step.cuh"

namespace tq::cuda {

template <int kDim, int kSets>
struct WideState {
  bool started;              // whether m means anything
  float l[kSets];            // of this lane's tokens; lane 4g + t: row t of each set
  float o[kSets][kDim / 16]; // of this warp's half of the dims

  TQ_DEVICE void Clear() {
    started = false;
#pragma unroll
    for (int n = 0; n < kSets; ++n) {
      l[n] = 0;
#pragma unroll
      for (int i = 0; i < kDim / 16; ++i) o[n][i] = 0;
    }
  }
};

// One of the two warps of a step.
template <int kDim, int kSets>
struct WideWarp {
  WideExchange<kDim, kSets>& exchange;
  const std::byte* queries;  // 16-bit form of the first row
  const Column* rows;
  int index;
  int lane;
  int barrier;

  TQ_DEVICE void Sync() const { SyncSome(barrier, 32 * kWideWarps); }
  TQ_DEVICE bool Any(bool yes) const { return AnyOfSome(barrier, 32 * kWideWarps, yes); }
  // This lane's row of a set.
  TQ_DEVICE int RowOf(int set) const { return 4 * set + (lane & 3); }
  TQ_DEVICE WideColumn& ColumnAt(int set) const { return exchange.columns[RowOf(set)]; }
  // The set whose row this lane keeps where every lane keeps one.
  TQ_DEVICE int OwnSet() const { return (lane >> 2) % kSets; }

  // B operands of a set.
  TQ_DEVICE void LoadQuery(int set, uint32_t (&q)[kDim / 16]) const {
    const int g = lane >> 2, t = lane & 3;
    const std::byte* row = queries + (8 * set + g) * kDim;
#pragma unroll
    for (int i = 0; i < kDim / 64; ++i) {
      const int chunk = WideChunk<kDim>(t * (kDim / 64) + i, g & 1);
      const uint4 v = *reinterpret_cast<const uint4*>(row + 16 * chunk);
      q[4 * i] = v.x;
      q[4 * i + 1] = v.y;
      q[4 * i + 2] = v.z;
      q[4 * i + 3] = v.w;
    }
  }
};

// Level products x[n][2 m + i] of the 16 m + 8 i + g-th token with row t of set n. codes: units of
// this warp's tokens, 16 kRows of them.
template <class C, int kDim, int kRows, int kSets>
TQ_DEVICE void WideKeyProducts(const WideWarp<kDim, kSets>& warp, const std::byte* codes,
                               const LevelTables& tables, float (&x)[kSets][2 * kRows]) {
  constexpr int kUnits = kDim / 64;  // of 16 tokens
  constexpr int kBatch = 4 / kUnits < kRows ? 4 / kUnits : kRows;  // operands in 32 registers
  UnitGroup<C::kWords, Tile<kDim>::kPiece> group;
#pragma unroll
  for (int first = 0; first < kRows; first += kBatch) {
    uint32_t r[kBatch * kUnits * 8];
#pragma unroll
    for (int i = 0; i < kBatch * kUnits; ++i) {
      const int u = first * kUnits + i;
      if (u % group.kUnits == 0) group.Load(codes, warp.lane, u);
      C::Unpack(group.words + u % group.kUnits * C::kWords, r + 8 * i, tables);
    }
#pragma unroll
    for (int n = 0; n < kSets; ++n) {
      uint32_t q[kDim / 16];
      warp.LoadQuery(n, q);
      int32_t start = 0;
      if constexpr (C::kKind != LevelKind::kSigned) {
        start = LevelShift<C>(warp.rows[warp.RowOf(n)].sum);
      }
#pragma unroll
      for (int m = 0; m < kBatch; ++m) {
        const uint32_t* upper = r + m * kUnits * 8;
        const uint32_t* lower = upper + kUnits * 4;
        int32_t c[4] = {start, 0, start, 0};
#pragma unroll
        for (int k = 0; k < kDim / 16; k += 2) {
          MmaLevels<C, false>(c, upper[k], lower[k], upper[k + 1], lower[k + 1], q[k], q[k + 1]);
        }
        x[n][2 * (first + m)] = static_cast<float>(c[1] * 256 + c[0]);
        x[n][2 * (first + m) + 1] = static_cast<float>(c[3] * 256 + c[2]);
      }
    }
  }
}

// The largest of x[n] over lanes with the same t; a lane gets that of its own set.
template <int kDim, int kSets>
TQ_DEVICE float LargestOfSets(const WideWarp<kDim, kSets>& warp, float (&x)[kSets]) {
#pragma unroll
  for (int half = kSets / 2; half > 0; half /= 2) {
    const bool upper = (warp.lane >> 2 & half) != 0;
#pragma unroll
    for (int n = 0; n < half; ++n) {
      const float other = ShuffleXor(upper ? x[n] : x[n + half], 4 * half);
      x[n] = Max(upper ? x[n + half] : x[n], other);
    }
  }
  float largest = x[0];
#pragma unroll
  for (int mask = 4 * kSets; mask < 32; mask *= 2) largest = Max(largest, ShuffleXor(largest, mask));
  return largest;
}

// The same over both warps, in two parts with a barrier between them.
template <int kDim, int kSets>
TQ_DEVICE void LeaveLargest(const WideWarp<kDim, kSets>& warp, float (&x)[kSets]) {
  warp.exchange.largest[warp.index][warp.RowOf(warp.OwnSet())] = LargestOfSets(warp, x);
}
template <int kDim, int kSets>
TQ_DEVICE float LargestOfBoth(const WideWarp<kDim, kSets>& warp) {
  const int row = warp.RowOf(warp.OwnSet());
  return Max(warp.exchange.largest[0][row], warp.exchange.largest[1][row]);
}

// What sums are relative to becomes no less than the scores (scale x).
template <int kDim, int kSets, int kScores>
TQ_DEVICE void RaiseWideReference(const WideWarp<kDim, kSets>& warp,
                                  const float (&x)[kSets][kScores],
                                  WideState<kDim, kSets>& state) {
  float largest[kSets];
#pragma unroll
  for (int n = 0; n < kSets; ++n) {
    largest[n] = x[n][0];
#pragma unroll
    for (int i = 1; i < kScores; ++i) largest[n] = Max(largest[n], x[n][i]);
  }
  LeaveLargest(warp, largest);
  warp.Sync();
  WideColumn& own = warp.ColumnAt(warp.OwnSet());
  const float before = -own.minus_m;
  const float m = Max(before, LargestOfBoth(warp) * own.scale);
  const float own_decay = Exp2(before - m);
#pragma unroll
  for (int n = 0; n < kSets; ++n) {
    const float decay = Shuffle(own_decay, warp.RowOf(n));
    state.l[n] *= decay;
#pragma unroll
    for (int i = 0; i < kDim / 16; ++i) state.o[n][i] *= decay;
  }
  warp.Sync();  // both have read it
  if (warp.index == 0 && warp.lane < 4 * kSets) own.minus_m = -m;
  warp.Sync();
}

// Level products become scores but for the query's scale. scales, token: of this warp's first
// token; the others follow in rows of 16.
template <int kDim, int kRows, int kSets>
TQ_DEVICE void WideScores(const WideWarp<kDim, kSets>& warp, const std::byte* scales,
                          int first_row, const StepMask& mask, float (&x)[kSets][2 * kRows],
                          float (&v)[2 * kRows], int step_tokens) {
  const int g = warp.lane >> 2;
  float k[2 * kRows];
#pragma unroll
  for (int m = 0; m < kRows; ++m) {
    const int row = first_row + m;
    const std::byte* at = scales + (row >> 1) * 128 + g * 16 + (row & 1) * 4;
    const uint32_t keys = *reinterpret_cast<const uint32_t*>(at);
    const uint32_t values = *reinterpret_cast<const uint32_t*>(at + 8);
    k[2 * m] = HalfLow(keys);
    k[2 * m + 1] = HalfHigh(keys);
    v[2 * m] = HalfLow(values);
    v[2 * m + 1] = HalfHigh(values);
  }
#pragma unroll
  for (int n = 0; n < kSets; ++n) {
    const float reference = warp.ColumnAt(n).reference;
#pragma unroll
    for (int i = 0; i < 2 * kRows; ++i) x[n][i] = FusedMulAdd(x[n][i], k[i], reference);
  }
  if (mask.All<false>(step_tokens)) return;
  const int begin = mask.unit.page * kPageTokens + mask.unit.token + warp.index * 16 * kRows + g;
#pragma unroll
  for (int i = 0; i < 2 * kRows; ++i) {
    if (begin + 8 * i > mask.segment.queries.last) v[i] = 0;
  }
#pragma unroll
  for (int n = 0; n < kSets; ++n) {
    const WideColumn& column = warp.ColumnAt(n);
    const PositionRange range = mask.Range<false>(column.position);
    const float hidden = FastDivide(kHiddenScore, column.scale);
#pragma unroll
    for (int i = 0; i < 2 * kRows; ++i) {
      const int position = begin + 8 * i;
      if (position < range.begin || position >= range.end) x[n][i] = hidden;
    }
  }
}

// x: exp2(score - m) v in place of scores; sums: of what v is multiplied by. True if a score lies
// too far above m, and nothing of this counts.
template <int kDim, int kSets, int kScores>
TQ_DEVICE bool Weigh(const WideWarp<kDim, kSets>& warp, const float (&v)[kScores],
                     float (&x)[kSets][kScores], float (&sums)[kSets]) {
  float highest = kLeastScore;
#pragma unroll
  for (int n = 0; n < kSets; ++n) {
    const WideColumn column = warp.ColumnAt(n);
    sums[n] = 0;
#pragma unroll
    for (int i = 0; i < kScores; ++i) {
      const float above = FusedMulAdd(x[n][i], column.scale, column.minus_m);
      highest = Max(highest, above);
      const float e = Exp2(above);
      sums[n] += e;
      x[n][i] = e * v[i];
    }
  }
  return highest > kHeadroom;
}

// Weights as 16-bit numbers, over the largest of the step: matrices of 16 tokens by four rows.
template <int kDim, int kSets, int kScores>
TQ_DEVICE void LeaveWeights(const WideWarp<kDim, kSets>& warp, float largest,
                            const float (&x)[kSets][kScores]) {
  const float own = largest > 1e-30f ? FastDivide(kLargestWeight, largest) : 0.0f;
#pragma unroll
  for (int n = 0; n < kSets; ++n) {
    const float to_weight = Shuffle(own, warp.RowOf(n));
    uint32_t* matrices = warp.exchange.weights[n][warp.index * (kScores / 2)] + warp.lane;
#pragma unroll
    for (int m = 0; m < kScores / 2; ++m) {
      matrices[32 * m] = WeightPair(x[n][2 * m], x[n][2 * m + 1], to_weight);
    }
  }
}

// Words of units 2 pair and 2 pair + 1 of a side.
template <int kWords>
TQ_DEVICE void LoadTwoUnits(const std::byte* side, int lane, int pair,
                            uint32_t (&words)[2 * kWords]) {
  if constexpr (kWords % 2 == 0) {
    const std::byte* from = side + pair * kWords * 256 + lane * 16;
#pragma unroll
    for (int i = 0; i < kWords / 2; ++i) {
      const uint4 x = *reinterpret_cast<const uint4*>(from + 512 * i);
      words[4 * i] = x.x;
      words[4 * i + 1] = x.y;
      words[4 * i + 2] = x.z;
      words[4 * i + 3] = x.w;
    }
  } else {
#pragma unroll
    for (int i = 0; i < kWords; ++i) {  // half pieces
      const int half = pair * kWords + i;
      const uint2 x =
          *reinterpret_cast<const uint2*>(side + (half >> 1) * 512 + lane * 16 + (half & 1) * 8);
      words[2 * i] = x.x;
      words[2 * i + 1] = x.y;
    }
  }
}

// state.o += the step's weights times the levels of this warp's half of the dims, over kTiles
// tiles.
template <class C, int kDim, int kTiles, int kSets>
TQ_DEVICE void WideValueProducts(const WideWarp<kDim, kSets>& warp, const std::byte* codes,
                                 int tile_bytes, const LevelTables& tables, float largest,
                                 WideState<kDim, kSets>& state) {
  using T = Tile<kDim>;
  constexpr int kHalves = kTiles * T::kHalves;  // of 32 tokens
  constexpr int kPairs = T::kUnits / 4;         // of units of a tile, of this warp
  constexpr int kBlocks = 4 / T::kHalves;       // of 16 dims in two units
  const float own_gain = largest * (1.0f / kLargestWeight);
#pragma unroll
  for (int pair = 0; pair < kPairs; ++pair) {
    uint32_t r[kTiles][16];
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      uint32_t words[2 * C::kWords];
      LoadTwoUnits<C::kWords>(codes + tile * tile_bytes, warp.lane, warp.index * kPairs + pair,
                              words);
      C::Unpack(words, r[tile], tables);
      C::Unpack(words + C::kWords, r[tile] + 8, tables);
    }
#pragma unroll
    for (int n = 0; n < kSets; ++n) {
      const float gain = Shuffle(own_gain, warp.RowOf(n));
      uint32_t b[(kHalves + 1) / 2][4];
#pragma unroll
      for (int h = 0; h < kHalves; h += 2) {
        LoadTransposed(b[h / 2], warp.exchange.weights[n][2 * h]);
      }
      int32_t start = 0;
      if constexpr (C::kKind != LevelKind::kSigned) {  // a multiple of the sum of the weights
        int32_t ones[4] = {};
#pragma unroll
        for (int h = 0; h < kHalves; ++h) {
          MmaS8U8(ones, 0x01010101u, 0x01010101u, 0x01010101u, 0x01010101u,
                  b[h / 2][h % 2 * 2], b[h / 2][h % 2 * 2 + 1]);
        }
        start = LevelShift<C>(ones[1] * 256 + ones[0]);
      }
#pragma unroll
      for (int block = 0; block < kBlocks; ++block) {
        int32_t c[4] = {start, 0, start, 0};
#pragma unroll
        for (int h = 0; h < kHalves; ++h) {
          const uint32_t* a = r[h / T::kHalves] + 4 * (block * T::kHalves + h % T::kHalves);
          MmaLevels<C, true>(c, a[0], a[1], a[2], a[3], b[h / 2][h % 2 * 2],
                             b[h / 2][h % 2 * 2 + 1]);
        }
        float* o = state.o[n] + 2 * (pair * kBlocks + block);
        o[0] = FusedMulAdd(static_cast<float>(c[1] * 256 + c[0]), gain, o[0]);
        o[1] = FusedMulAdd(static_cast<float>(c[3] * 256 + c[2]), gain, o[1]);
      }
    }
  }
}

// kTiles: two, one for each warp's scores, or one, whose tokens the warps halve. between: what is
// to be done when both have read the step before for the last time and this one's scores are
// there; all copies this thread asked for before have come by then.
template <class K, class V, int kTiles, int kDim, int kSets, class Fn>
TQ_DEVICE void WideStep(const WideWarp<kDim, kSets>& warp, const std::byte* stage,
                        const uint32_t* levels, const StepMask& mask,
                        WideState<kDim, kSets>& state, Fn&& between) {
  using T = Tile<kDim>;
  using Offsets = PairTile<K, V, kDim>;
  constexpr int kRows = kTiles * T::kTokens / 32;  // of 16 tokens, of a warp
  static_assert(kTiles == 2 || UnitGroup<K::kWords, T::kPiece>::kUnits == 1);
  const std::byte* tile = kTiles == 2 ? stage + warp.index * Offsets::kBytes : stage;
  const std::byte* codes =
      kTiles == 2 ? tile : tile + warp.index * (T::kUnits / 2 * K::kWords * 128);
  float x[kSets][2 * kRows];
  float sums[kSets];
  bool raise = !state.started;
  do {
    WideKeyProducts<K, kDim, kRows>(warp, codes, LoadTables<K>(levels, warp.lane), x);
    float v[2 * kRows];
    WideScores<kDim, kRows>(warp, tile + Offsets::kScales, kTiles == 2 ? 0 : warp.index * kRows,
                            mask, x, v, kTiles * T::kTokens);
    if (raise) RaiseWideReference(warp, x, state);
    // Hidden scores may lie above what was raised to them, by the rounding of numbers of their size.
    const bool rises = Weigh(warp, v, x, sums) && !raise;
    float largest[kSets];
#pragma unroll
    for (int n = 0; n < kSets; ++n) {
      largest[n] = 0;
#pragma unroll
      for (int i = 0; i < 2 * kRows; ++i) largest[n] = Max(largest[n], x[n][i]);
    }
    LeaveLargest(warp, largest);
    CopyWait<0>();
    raise = warp.Any(rises);
  } while (raise);
  state.started = true;
#pragma unroll
  for (int n = 0; n < kSets; ++n) state.l[n] += sums[n];
  between();
  const float largest = LargestOfBoth(warp);
  LeaveWeights(warp, largest, x);
  warp.Sync();
  WideValueProducts<V, kDim, kTiles>(warp, stage + Offsets::kValues, Offsets::kBytes,
                                     LoadTables<V>(levels, warp.lane), largest, state);
}

}  // namespace tq::cuda
