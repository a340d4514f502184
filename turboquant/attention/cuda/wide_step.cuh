// SPDX-License-Identifier: Apache-2.0
// One step of a wide kernel: four warps, more columns than one warp's registers hold. Each warp
// scores a quarter of the step's tokens against all query rows and then adds up a quarter of the
// dims for all of them, so that codes are unpacked once. In between the warps exchange weights
// through shared memory; queries stay there.
#pragma once

#include <limits>

#include "turboquant/attention/cuda/wide_products.cuh"

namespace tq::cuda {

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
// In place of a largest weight: the reference has to rise, and nothing of this step counts yet.
inline constexpr float kRises = std::numeric_limits<float>::infinity();

// What sums are relative to becomes no less than the scores.
template <int kDim, int kSets, int kScores>
TQ_DEVICE void RaiseWideReference(const WideWarp<kDim, kSets>& warp,
                                  const float (&x)[kSets][kScores], const float* references,
                                  WideState<kDim, kSets>& state) {
  float largest[kSets];
#pragma unroll
  for (int n = 0; n < kSets; ++n) {
    largest[n] = x[n][0];
#pragma unroll
    for (int i = 1; i < kScores; ++i) largest[n] = Max(largest[n], x[n][i]);
  }
  warp.Sync();  // all have read the largest weights
  LeaveLargest(warp, largest);
  warp.Sync();
  WideColumn& own = warp.ColumnAt(warp.OwnSet());
  const float before = -own.minus_m;
  const float reference = references[warp.RowOf(warp.OwnSet())];
  const float m = Max(before, FusedMulAdd(LargestOfAll(warp), own.scale, reference));
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
// scales: of the tile, of which this warp has kRows times 16 tokens from first_row on.
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
  HideInvisible<false>(
      mask, warp.index * 16 * kRows + g, [&](int n) { return warp.rows[warp.RowOf(n)].position; },
      [&](int n) { return warp.rows[warp.RowOf(n)].scale; }, x, v);
}

// x: exp2(score - m) v in place of scores; sums: of what v is multiplied by, of this lane's tokens.
// True if one of them is so large that a score may lie more than kHeadroom above m: nothing of this
// counts then.
template <int kDim, int kSets, int kScores>
TQ_DEVICE bool Weigh(const WideWarp<kDim, kSets>& warp, const float* references,
                     const float (&v)[kScores], float (&x)[kSets][kScores], float (&sums)[kSets]) {
  float largest_sum = 0;
#pragma unroll
  for (int n = 0; n < kSets; ++n) {
    const WideColumn column = warp.ColumnAt(n);
    const float offset = references[warp.RowOf(n)] + column.minus_m;
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

// A step of kTiles tiles. In the middle, when all warps have read the step before for the last
// time, they meet their loader, who has what comes next.
template <class K, class V, int kTiles, int kDim, int kSets>
TQ_DEVICE void WideStep(const WideWarp<kDim, kSets>& warp, const std::byte* stage,
                        const uint32_t* levels, const float* references, const StepMask& mask,
                        bool visible, bool first, WideState<kDim, kSets>& state) {
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
    if (raise) RaiseWideReference(warp, x, references, state);
    // Hidden scores may lie above what was raised to them, by the rounding of numbers of their
    // size.
    const bool rises = Weigh(warp, references, v, x, sums) && !raise;
    float of_set[kSets];
#pragma unroll
    for (int n = 0; n < kSets; ++n) {
      of_set[n] = 0;
#pragma unroll
      for (int i = 0; i < 2 * kRows; ++i) of_set[n] = Max(of_set[n], x[n][i]);
    }
    if (rises) of_set[0] = kRises;
    LeaveLargest(warp, of_set);
    warp.Sync();
    raise = !raise && AnyLane(LargestOfAll(warp) == kRises);
  } while (raise);
#pragma unroll
  for (int n = 0; n < kSets; ++n) state.l[n] += sums[n];
  const float largest = LargestOfAll(warp);
  LeaveWeights(warp, largest, x);
  WideLevels<V, kDim, kTiles> values;
  values.Load(stage + Offsets::kValues, Offsets::kBytes, warp.index, warp.lane,
              LoadTables<V>(levels, warp.lane));
  warp.SyncWithLoader();
  WideValueProducts(warp, values, largest, state);
}

}  // namespace tq::cuda
