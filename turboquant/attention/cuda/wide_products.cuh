// SPDX-License-Identifier: Apache-2.0
// Products of a wide step: levels of one warp, in registers, with columns in shared memory that all
// four warps read (queries, then weights), on tensor cores that take operands of four warps at
// once.
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
  int run;

  TQ_DEVICE void Sync() const { SyncSome(kTeamBarriers + run, 32 * kWideWarps); }
  // With the warp that loads for these.
  TQ_DEVICE void SyncWithLoader() const { SyncSome(kLoadBarriers + run, 32 * (kWideWarps + 1)); }
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

}  // namespace tq::cuda
