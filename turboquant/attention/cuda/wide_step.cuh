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
  WideExchange<kSets>& exchange;
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
};

// Products of kSteps times 32 signed bytes of this warp with those of 8 columns of each set, which
// lie in shared memory as GroupMma (lane_ops.cuh) wants them. kSigned: so are columns. kFromZero: c
// is only written. The sums are there after a wait.
template <bool kSigned, bool kFromZero, int kSteps, int kSets>
TQ_DEVICE void StartProducts(int32_t (&c)[kSets][4], const uint32_t (&a)[kSteps][4],
                             const std::byte* columns, int column_stride, int lane) {
  if constexpr (kHasGroupMma) {
    using Group = GroupMma<kSets>;
    const uint64_t b = Group::Columns(columns, column_stride);
    if constexpr (kFromZero) {
      Group::Begin();
    } else {
      Group::Begin(c);
    }
    Group::template Add<kSigned, kFromZero>(c, a[0], b);
#pragma unroll
    for (int k = 1; k < kSteps; ++k) {
      Group::template Add<kSigned, false>(c, a[k], b + k * (2 * kMatrixBytes / 16));
    }
  } else {
#pragma unroll
    for (int n = 0; n < kSets; ++n) {
      if constexpr (kFromZero) c[n][0] = c[n][1] = c[n][2] = c[n][3] = 0;
#pragma unroll
      for (int k = 0; k < kSteps; ++k) {
        const std::byte* at = columns + n * column_stride + 2 * k * kMatrixBytes + lane * 4;
        const uint32_t b0 = *reinterpret_cast<const uint32_t*>(at);
        const uint32_t b1 = *reinterpret_cast<const uint32_t*>(at + kMatrixBytes);
        MmaBytesOf<true, kSigned>(c[n], a[k][0], a[k][1], a[k][2], a[k][3], b0, b1);
      }
    }
  }
}
template <int kSets>
TQ_DEVICE void WaitForProducts([[maybe_unused]] int32_t (&c)[kSets][4]) {
  if constexpr (kHasGroupMma) GroupMma<kSets>::Wait(c);
}

// Level bytes as signed ones, of which a level may lie 1/2 above.
template <class C>
inline constexpr bool kHalfAbove = C::kKind == LevelKind::kSignedHalf;
template <class C>
TQ_DEVICE void UnpackSigned(const uint32_t* words, uint32_t* r, const LevelTables& tables) {
  C::Unpack(words, r, tables);
  if constexpr (C::kKind == LevelKind::kUnsigned) {
#pragma unroll
    for (int i = 0; i < 8; ++i) r[i] ^= 0x80808080u;
  }
}
// Sums that products of levels are to begin with.
template <class C, int kSets>
TQ_DEVICE void StartSums(const int32_t (&start)[kSets], int32_t (&c)[kSets][4]) {
  if constexpr (kHalfAbove<C>) {
#pragma unroll
    for (int n = 0; n < kSets; ++n) {
      c[n][0] = c[n][2] = start[n];
      c[n][1] = c[n][3] = 0;
    }
  }
}

// Words of kCount units of a side from `first` on, a multiple of kCount, as they lie in pieces of
// 16 bytes.
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

// Level products x[n][2 m + i] of the 16 m + 8 i + g-th token of this warp with row t of set n.
// first_row: of 16 tokens, in the tile.
template <class C, int kDim, int kRows, int kSets>
TQ_DEVICE void WideKeyProducts(const WideWarp<kDim, kSets>& warp, const std::byte* codes,
                               int first_row, const LevelTables& tables,
                               float (&x)[kSets][2 * kRows]) {
  constexpr int kUnits = kDim / 64;  // of 16 tokens
  constexpr bool kFromZero = !kHalfAbove<C>;
  uint32_t words[kRows * kUnits * C::kWords];
  LoadUnits<C::kWords, kRows * kUnits>(codes, warp.lane, first_row * kUnits, words);
  int32_t start[kSets] = {};
  if constexpr (!kFromZero) {
#pragma unroll
    for (int n = 0; n < kSets; ++n) start[n] = LevelShift<C>(warp.rows[warp.RowOf(n)].sum);
  }
#pragma unroll
  for (int m = 0; m < kRows; ++m) {
    uint32_t r[kUnits * 8];
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
      UnpackSigned<C>(words + (m * kUnits + u) * C::kWords, r + 8 * u, tables);
    }
    uint32_t a[kDim / 32][4];
#pragma unroll
    for (int k = 0; k < kDim / 32; ++k) {
      a[k][0] = r[2 * k];
      a[k][1] = r[kDim / 16 + 2 * k];
      a[k][2] = r[2 * k + 1];
      a[k][3] = r[kDim / 16 + 2 * k + 1];
    }
    int32_t c[kSets][4];
    StartSums<C>(start, c);
    StartProducts<true, kFromZero>(c, a, warp.queries, 8 * kDim, warp.lane);
    WaitForProducts(c);
#pragma unroll
    for (int n = 0; n < kSets; ++n) {
      x[n][2 * m] = static_cast<float>(c[n][1] * 256 + c[n][0]);
      x[n][2 * m + 1] = static_cast<float>(c[n][3] * 256 + c[n][2]);
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
  for (int mask = 4 * kSets; mask < 32; mask *= 2)
    largest = Max(largest, ShuffleXor(largest, mask));
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

inline constexpr float kMostOfHeadroom = 256;  // exp2 of kHeadroom

// What sums are relative to becomes no less than the scores.
template <int kDim, int kSets, int kScores>
TQ_DEVICE void RaiseWideReference(const WideWarp<kDim, kSets>& warp,
                                  const float (&x)[kSets][kScores], WideState<kDim, kSets>& state) {
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
  const float m = Max(before, FusedMulAdd(LargestOfAll(warp), own.scale, own.reference));
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

// Level products become scores but for the query's scale and the reference; v: value scales.
// scales: of the tile, of which this warp has kRows times 16 tokens from first_row on. Invisible
// tokens as in Scores.
template <int kDim, int kRows, int kSets>
TQ_DEVICE void WideScores(const WideWarp<kDim, kSets>& warp, const std::byte* scales, int first_row,
                          const StepMask& mask, bool visible, float (&x)[kSets][2 * kRows],
                          float (&v)[2 * kRows]) {
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
#pragma unroll
    for (int i = 0; i < 2 * kRows; ++i) x[n][i] *= k[i];
  }
  if (visible) return;
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

// x: exp2(score - m) v in place of scores; sums: of what v is multiplied by, of this lane's tokens.
// True if one of them is so large that a score may lie more than kHeadroom above m: nothing of this
// counts then.
template <int kDim, int kSets, int kScores>
TQ_DEVICE bool Weigh(const WideWarp<kDim, kSets>& warp, const float (&v)[kScores],
                     float (&x)[kSets][kScores], float (&sums)[kSets]) {
  float largest_sum = 0;
#pragma unroll
  for (int n = 0; n < kSets; ++n) {
    const WideColumn column = warp.ColumnAt(n);
    const float offset = column.reference + column.minus_m;
    sums[n] = 0;
#pragma unroll
    for (int i = 0; i < kScores; ++i) {
      const float e = Exp2(FusedMulAdd(x[n][i], column.scale, offset));
      sums[n] += e;
      x[n][i] = e * v[i];
    }
    largest_sum = Max(largest_sum, sums[n]);
  }
  return largest_sum > kMostOfHeadroom;
}

// Weights as 16-bit numbers, over the largest of the step, as the columns of values' products:
// low bytes of row t in column 2t of its set, high bytes in the next one; tokens g and g + 8 side
// by side.
template <int kDim, int kSets, int kScores>
TQ_DEVICE void LeaveWeights(const WideWarp<kDim, kSets>& warp, float largest,
                            const float (&x)[kSets][kScores]) {
  constexpr int kRows = kScores / 2;
  constexpr int kColumnStride = WideExchange<kSets>::kMatrices * kMatrixBytes;
  static_assert(kRows == 1 || kRows == 2);
  const float own = largest > 1e-30f ? FastDivide(kLargestWeight, largest) : 0.0f;
  // Four matrices at once; a lane has the address of a column of one.
  const int matrix = warp.lane >> 3;
  std::byte* to = warp.exchange.weights[0][warp.index * kRows] + (warp.lane & 7) * 16 +
                  matrix / kRows * kColumnStride + matrix % kRows * kMatrixBytes;
#pragma unroll
  for (int first = 0; first < kSets; first += 4 / kRows) {
    uint32_t pairs[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int n = first + i / kRows, m = i % kRows;
      const float to_weight = Shuffle(own, warp.RowOf(n));
      pairs[i] = WeightPair(x[n][2 * m], x[n][2 * m + 1], to_weight);
    }
    StoreTransposed(to + first * kColumnStride, pairs);
  }
  PublishToGroupMma();
}

// Levels of this warp's dims over kTiles tiles, as operands: [16 dims][32 tokens].
template <class C, int kDim, int kTiles>
struct WideLevels {
  using T = Tile<kDim>;
  static constexpr int kHalves = kTiles * T::kHalves;  // of 32 tokens
  static constexpr int kUnits = T::kUnits / kWideWarps;
  static constexpr int kBlocks = 2 * kUnits / T::kHalves;  // of 16 dims
  uint32_t a[kBlocks][kHalves][4];

  TQ_DEVICE void Load(const std::byte* codes, int tile_bytes, int index, int lane,
                      const LevelTables& tables) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      uint32_t words[kUnits * C::kWords];
      LoadUnits<C::kWords, kUnits>(codes + tile * tile_bytes, lane, index * kUnits, words);
      uint32_t r[kUnits * 8];
#pragma unroll
      for (int u = 0; u < kUnits; ++u) UnpackSigned<C>(words + u * C::kWords, r + 8 * u, tables);
#pragma unroll
      for (int i = 0; i < kUnits * 8; ++i) {
        const int m_tile = i / 4;
        a[m_tile / T::kHalves][tile * T::kHalves + m_tile % T::kHalves][i % 4] = r[i];
      }
    }
  }
};

// state.o += the step's weights times levels.
template <class C, int kDim, int kTiles, int kSets>
TQ_DEVICE void WideValueProducts(const WideWarp<kDim, kSets>& warp,
                                 const WideLevels<C, kDim, kTiles>& levels, float largest,
                                 WideState<kDim, kSets>& state) {
  using Levels = WideLevels<C, kDim, kTiles>;
  constexpr int kColumnStride = WideExchange<kSets>::kMatrices * kMatrixBytes;
  constexpr bool kFromZero = !kHalfAbove<C>;
  const std::byte* weights = warp.exchange.weights[0][0];
  int32_t start[kSets] = {};
  if constexpr (!kFromZero) {  // a multiple of the sum of the weights
    uint32_t ones[Levels::kHalves][4];
    int32_t c[kSets][4];
#pragma unroll
    for (int h = 0; h < Levels::kHalves; ++h) {
      ones[h][0] = ones[h][1] = ones[h][2] = ones[h][3] = 0x01010101u;
    }
    StartProducts<false, true>(c, ones, weights, kColumnStride, warp.lane);
    WaitForProducts(c);
#pragma unroll
    for (int n = 0; n < kSets; ++n) start[n] = LevelShift<C>(c[n][1] * 256 + c[n][0]);
  }
  const float own_gain = largest * (1.0f / kLargestWeight);
  float gain[kSets];
#pragma unroll
  for (int block = 0; block < Levels::kBlocks; ++block) {
    int32_t c[kSets][4];
    StartSums<C>(start, c);
    StartProducts<false, kFromZero>(c, levels.a[block], weights, kColumnStride, warp.lane);
    if (block == 0) {
#pragma unroll
      for (int n = 0; n < kSets; ++n) gain[n] = Shuffle(own_gain, warp.RowOf(n));
    }
    WaitForProducts(c);
#pragma unroll
    for (int n = 0; n < kSets; ++n) {
      float* o = state.o[n] + 2 * block;
      o[0] = FusedMulAdd(static_cast<float>(c[n][1] * 256 + c[n][0]), gain[n], o[0]);
      o[1] = FusedMulAdd(static_cast<float>(c[n][3] * 256 + c[n][2]), gain[n], o[1]);
    }
  }
}

// A step of kTiles tiles. between: what is to be done when all warps have read the step before for
// the last time and this one's scores are there; all copies that the thread asked for have come by
// then.
template <class K, class V, int kTiles, int kDim, int kSets, class Fn>
TQ_DEVICE void WideStep(const WideWarp<kDim, kSets>& warp, const std::byte* stage,
                        const uint32_t* levels, const StepMask& mask, bool visible, bool first,
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
    WideScores<kDim, kRows>(warp, tile + Offsets::kScales, row_of_tile, mask, visible, x, v);
    if (raise) RaiseWideReference(warp, x, state);
    // Hidden scores may lie above what was raised to them, by the rounding of numbers of their
    // size.
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
  WideLevels<V, kDim, kTiles> values;
  values.Load(stage + Offsets::kValues, Offsets::kBytes, warp.index, warp.lane,
              LoadTables<V>(levels, warp.lane));
  warp.Sync();
  WideValueProducts(warp, values, largest, state);
}

}  // namespace tq::cuda
