// SPDX-License-Identifier: Apache-2.0
// One step of a wide kernel: four warps, more columns than one warp's registers hold. Each warp
// scores a quarter of the step's tokens against all query rows and then adds up a quarter of the
// dims for all of them, so that codes are unpacked once. In between the warps exchange weights
// through shared memory; queries stay there.
#pragma once

#include "turboquant/attention/cuda/decode_memory.h"
#include "turboquant/attention/cuda/decode_step.cuh"

namespace tq::cuda {

template <int kDim, int kSets>
struct WideState {
  static constexpr int kOutputs = kDim / 8 / kWideWarps;
  float l[kSets];            // of this lane's tokens; lane 4g + t: row t of each set
  float o[kSets][kOutputs];  // of this warp's dims

  TQ_DEVICE void Clear() {
#pragma unroll
    for (int n = 0; n < kSets; ++n) {
      l[n] = 0;
#pragma unroll
      for (int i = 0; i < kOutputs; ++i) o[n][i] = 0;
    }
  }
};

// One of the warps of a step.
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

// Words of kCount units of a side from `first` on, a multiple of kCount, as they lie in pieces of 16
// bytes.
template <int kWords, int kCount>
TQ_DEVICE void LoadUnits(const std::byte* side, int lane, int first,
                         uint32_t (&words)[kCount * kWords]) {
  constexpr int kAlign = kCount * kWords % 4 == 0 ? 4 : kCount * kWords % 2 == 0 ? 2 : 1;
#pragma unroll
  for (int i = 0; i < kCount * kWords; i += kAlign) {
    const int word = first * kWords + i;
    const std::byte* from = side + (word >> 2) * 512 + lane * 16 + (word & 3) * 4;
    if constexpr (kAlign == 4) {
      const uint4 x = *reinterpret_cast<const uint4*>(from);
      words[i] = x.x;
      words[i + 1] = x.y;
      words[i + 2] = x.z;
      words[i + 3] = x.w;
    } else if constexpr (kAlign == 2) {
      const uint2 x = *reinterpret_cast<const uint2*>(from);
      words[i] = x.x;
      words[i + 1] = x.y;
    } else {
      words[i] = *reinterpret_cast<const uint32_t*>(from);
    }
  }
}

// Column sets whose products are on their way together: one after the other each would wait for the
// one before.
inline constexpr int kTogether = 2;

// Level products x[n][2 m + i] of the 16 m + 8 i + g-th token of this warp with row t of set n.
// first_row: of 16 tokens, in the tile.
template <class C, int kDim, int kRows, int kSets>
TQ_DEVICE void WideKeyProducts(const WideWarp<kDim, kSets>& warp, const std::byte* codes,
                               int first_row, const LevelTables& tables,
                               float (&x)[kSets][2 * kRows]) {
  constexpr int kUnits = kRows * kDim / 64;
  uint32_t r[kUnits * 8];
  {
    uint32_t words[kUnits * C::kWords];
    LoadUnits<C::kWords, kUnits>(codes, warp.lane, first_row * kDim / 64, words);
#pragma unroll
    for (int u = 0; u < kUnits; ++u) C::Unpack(words + u * C::kWords, r + 8 * u, tables);
  }
#pragma unroll
  for (int first = 0; first < kSets; first += kTogether) {
    uint32_t q[kTogether][kDim / 16];
    int32_t c[kTogether][kRows][4];
#pragma unroll
    for (int n = 0; n < kTogether; ++n) {
      warp.LoadQuery(first + n, q[n]);
      int32_t start = 0;
      if constexpr (C::kKind != LevelKind::kSigned) {
        start = LevelShift<C>(warp.rows[warp.RowOf(first + n)].sum);
      }
#pragma unroll
      for (int m = 0; m < kRows; ++m) {
        c[n][m][0] = c[n][m][2] = start;
        c[n][m][1] = c[n][m][3] = 0;
      }
    }
#pragma unroll
    for (int k = 0; k < kDim / 16; k += 2) {
#pragma unroll
      for (int m = 0; m < kRows; ++m) {
        const uint32_t* upper = r + m * kDim / 8 + k;
        const uint32_t* lower = upper + kDim / 16;
#pragma unroll
        for (int n = 0; n < kTogether; ++n) {
          MmaLevels<C, false>(c[n][m], upper[0], lower[0], upper[1], lower[1], q[n][k],
                              q[n][k + 1]);
        }
      }
    }
#pragma unroll
    for (int n = 0; n < kTogether; ++n) {
#pragma unroll
      for (int m = 0; m < kRows; ++m) {
        x[first + n][2 * m] = static_cast<float>(c[n][m][1] * 256 + c[n][m][0]);
        x[first + n][2 * m + 1] = static_cast<float>(c[n][m][3] * 256 + c[n][m][2]);
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

// The same over all warps, in two parts with a barrier between them.
template <int kDim, int kSets>
TQ_DEVICE void LeaveLargest(const WideWarp<kDim, kSets>& warp, float (&x)[kSets]) {
  warp.exchange.largest[warp.index][warp.RowOf(warp.OwnSet())] = LargestOfSets(warp, x);
}
template <int kDim, int kSets>
TQ_DEVICE float LargestOfAll(const WideWarp<kDim, kSets>& warp) {
  const int row = warp.RowOf(warp.OwnSet());
  float largest = warp.exchange.largest[0][row];
#pragma unroll
  for (int i = 1; i < kWideWarps; ++i) largest = Max(largest, warp.exchange.largest[i][row]);
  return largest;
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
  const float m = Max(before, LargestOfAll(warp) * own.scale);
  const float own_decay = Exp2(before - m);
#pragma unroll
  for (int n = 0; n < kSets; ++n) {
    const float decay = Shuffle(own_decay, warp.RowOf(n));
    state.l[n] *= decay;
#pragma unroll
    for (int i = 0; i < state.kOutputs; ++i) state.o[n][i] *= decay;
  }
  warp.Sync();  // all have read it
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

// x: exp2(score - m) v in place of scores; sums: of what v is multiplied by. True if a score may lie
// too far above m, and nothing of this counts.
template <int kDim, int kSets, int kScores>
TQ_DEVICE bool Weigh(const WideWarp<kDim, kSets>& warp, const float (&v)[kScores],
                     float (&x)[kSets][kScores], float (&sums)[kSets]) {
  float largest_sum = 0;
#pragma unroll
  for (int n = 0; n < kSets; ++n) {
    const WideColumn column = warp.ColumnAt(n);
    sums[n] = 0;
#pragma unroll
    for (int i = 0; i < kScores; ++i) {
      const float e = Exp2(FusedMulAdd(x[n][i], column.scale, column.minus_m));
      sums[n] += e;
      x[n][i] = e * v[i];
    }
    largest_sum = Max(largest_sum, sums[n]);
  }
  return largest_sum > kMostWeight;
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

// state.o += the step's weights times the levels of this warp's dims, over kTiles tiles.
template <class C, int kDim, int kTiles, int kSets>
TQ_DEVICE void WideValueProducts(const WideWarp<kDim, kSets>& warp, const std::byte* codes,
                                 int tile_bytes, const LevelTables& tables, float largest,
                                 WideState<kDim, kSets>& state) {
  using T = Tile<kDim>;
  constexpr int kHalves = kTiles * T::kHalves;  // of 32 tokens
  constexpr int kUnits = T::kUnits / kWideWarps;
  uint32_t r[kTiles][kUnits * 8];
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    uint32_t words[kUnits * C::kWords];
    LoadUnits<C::kWords, kUnits>(codes + tile * tile_bytes, warp.lane, warp.index * kUnits, words);
#pragma unroll
    for (int u = 0; u < kUnits; ++u) C::Unpack(words + u * C::kWords, r[tile] + 8 * u, tables);
  }
  constexpr int kBlocks = 2 * kUnits / T::kHalves;  // of 16 dims
  const float own_gain = largest * (1.0f / kLargestWeight);
#pragma unroll
  for (int first = 0; first < kSets; first += kTogether) {
    uint32_t b[kTogether][kHalves / 2][4];
    int32_t c[kTogether][kBlocks][4];
#pragma unroll
    for (int n = 0; n < kTogether; ++n) {
#pragma unroll
      for (int h = 0; h < kHalves; h += 2) {
        LoadTransposed(b[n][h / 2], warp.exchange.weights[first + n][2 * h]);
      }
    }
#pragma unroll
    for (int n = 0; n < kTogether; ++n) {
      int32_t start = 0;
      if constexpr (C::kKind != LevelKind::kSigned) {  // a multiple of the sum of the weights
        int32_t ones[4] = {};
#pragma unroll
        for (int h = 0; h < kHalves; ++h) {
          MmaS8U8(ones, 0x01010101u, 0x01010101u, 0x01010101u, 0x01010101u,
                  b[n][h / 2][h % 2 * 2], b[n][h / 2][h % 2 * 2 + 1]);
        }
        start = LevelShift<C>(ones[1] * 256 + ones[0]);
      }
#pragma unroll
      for (int block = 0; block < kBlocks; ++block) {
        c[n][block][0] = c[n][block][2] = start;
        c[n][block][1] = c[n][block][3] = 0;
      }
    }
#pragma unroll
    for (int h = 0; h < kHalves; ++h) {
#pragma unroll
      for (int block = 0; block < kBlocks; ++block) {
        const uint32_t* a = r[h / T::kHalves] + 4 * (block * T::kHalves + h % T::kHalves);
#pragma unroll
        for (int n = 0; n < kTogether; ++n) {
          MmaLevels<C, true>(c[n][block], a[0], a[1], a[2], a[3], b[n][h / 2][h % 2 * 2],
                             b[n][h / 2][h % 2 * 2 + 1]);
        }
      }
    }
#pragma unroll
    for (int n = 0; n < kTogether; ++n) {
      const float gain = Shuffle(own_gain, warp.RowOf(first + n));
#pragma unroll
      for (int block = 0; block < kBlocks; ++block) {
        float* o = state.o[first + n] + 2 * block;
        const int32_t(&x)[4] = c[n][block];
        o[0] = FusedMulAdd(static_cast<float>(x[1] * 256 + x[0]), gain, o[0]);
        o[1] = FusedMulAdd(static_cast<float>(x[3] * 256 + x[2]), gain, o[1]);
      }
    }
  }
}

// A step of kTiles tiles. between: what is to be done when all warps have read the step before for
// the last time and this one's scores are there; all copies that the thread asked for have come by
// then.
template <class K, class V, int kTiles, int kDim, int kSets, class Fn>
TQ_DEVICE void WideStep(const WideWarp<kDim, kSets>& warp, const std::byte* stage,
                        const uint32_t* levels, const StepMask& mask, bool first,
                        WideState<kDim, kSets>& state, Fn&& between) {
  using T = Tile<kDim>;
  using Offsets = PairTile<K, V, kDim>;
  constexpr int kTileRows = T::kTokens / 16;
  constexpr int kRows = kTiles * kTileRows / kWideWarps;  // of 16 tokens, of a warp
  static_assert(kRows >= 1 && kTileRows % kRows == 0);
  const int first_row = warp.index * kRows;
  const int row_of_tile = first_row % kTileRows;
  const std::byte* tile = stage + first_row / kTileRows * Offsets::kBytes;
  float x[kSets][2 * kRows];
  float sums[kSets];
  bool raise = first;  // m means nothing yet
  do {
    WideKeyProducts<K, kDim, kRows>(warp, tile, row_of_tile, LoadTables<K>(levels, warp.lane), x);
    float v[2 * kRows];
    WideScores<kDim, kRows>(warp, tile + Offsets::kScales, row_of_tile, mask, x, v,
                            kTiles * T::kTokens);
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
#pragma unroll
  for (int n = 0; n < kSets; ++n) state.l[n] += sums[n];
  between();
  const float largest = LargestOfAll(warp);
  LeaveWeights(warp, largest, x);
  warp.Sync();
  WideValueProducts<V, kDim, kTiles>(warp, stage + Offsets::kValues, Offsets::kBytes,
                                     LoadTables<V>(levels, warp.lane), largest, state);
}

}  // namespace tq::cuda
