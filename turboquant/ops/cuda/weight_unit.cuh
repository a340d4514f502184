// SPDX-License-Identifier: Apache-2.0
// A unit of groups of a panel in registers, as it is packed. Lane 4 g + t has rows 2g and 2g + 1,
// which lie beside each other: of all groups the words with columns 4t.. and 16 + 4t.., and the
// scales of those groups with whose sums it ends (token_unit.cuh).
// Places are one address and constants behind it, where all groups of the unit are there: an
// address for each load was a third of all instructions.
#pragma once

#include "turboquant/ops/cuda/decode_group.cuh"
#include "turboquant/ops/cuda/matvec_block.cuh"
#include "turboquant/ops/cuda/token_unit.cuh"

namespace tq::cuda {

__device__ __forceinline__ uint2 LoadWordPair(const uint8_t* p) {
  uint2 v;
  asm volatile("ld.global.nc.L1::no_allocate.v2.b32 {%0,%1}, [%2];"
               : "=r"(v.x), "=r"(v.y)
               : "l"(p));
  return v;
}
__device__ __forceinline__ uint16_t LoadHalfWord(const uint8_t* p) {
  uint16_t v;
  asm volatile("ld.global.nc.L1::no_allocate.u16 %0, [%1];" : "=h"(v) : "l"(p));
  return v;
}

// Scales of two rows for kCount groups; a unit lies in one super-block.
template <typename L, int kCount>
struct RowPairScales {
  static constexpr int kRecords = L::kSuper ? 1 : kCount;
  static constexpr bool kTwoFine = L::kSuper && L::kScales != ScaleKind::kSuper32;
  uint32_t d[kRecords], m[kRecords];
  uint16_t fine[kCount][2];

  // Of group in_record + behind.
  __device__ __forceinline__ void Load(int i, const uint8_t* record, int in_record, int behind,
                                       int row) {
    if (i < kRecords) {
      d[i] = LoadWord(record + 2 * row);
      if constexpr (L::kMin) m[i] = LoadWord(record + 2 * row + 32);
    }
    if constexpr (L::kSuper) {
      constexpr int kStart = L::kMin ? 64 : 32, kStep = kTwoFine ? 32 : 16;
      const uint8_t* own = record + in_record * kStep + row;
      fine[i][0] = LoadHalfWord(own + (kStart + behind * kStep));
      if constexpr (kTwoFine) fine[i][1] = LoadHalfWord(own + (kStart + behind * kStep + 16));
    }
  }
  __device__ __forceinline__ GroupScale Of(int i, int row) const {
    ScaleBytes<L> bytes = {};
    bytes.d = static_cast<uint16_t>(d[L::kSuper ? 0 : i] >> (16 * row));
    if constexpr (L::kMin) bytes.m = static_cast<uint16_t>(m[L::kSuper ? 0 : i] >> (16 * row));
    if constexpr (L::kSuper) bytes.fine[0] = static_cast<uint8_t>(fine[i][0] >> (8 * row));
    if constexpr (kTwoFine) bytes.fine[1] = static_cast<uint8_t>(fine[i][1] >> (8 * row));
    return ScaleOf<L>(bytes);
  }
};

template <typename L, int kTokens, int kUnitGroups>
struct WeightUnit {
  using Columns = TokenColumns<kTokens, kUnitGroups>;
  static constexpr int kPlanes = PlaneWords<L>::kCount;

  uint2 planes[kUnitGroups][kPlanes];
  RowPairScales<L, Columns::kOperands * Columns::kOwnGroups> scales;

  // Groups from `first` on. kWhole: all of them are there; else the last one stands for those
  // behind it.
  template <bool kWhole>
  __device__ __forceinline__ void Load(const MatVecParams& p, const uint8_t* panel, int first,
                                       int lane) {
    static_assert(kWhole || !L::kSuper);
    constexpr int kRecord = static_cast<int>(L::kRecordBytes);
    constexpr int kGroup = static_cast<int>(L::kGroupBytes);
    constexpr int kStep = L::kSuper ? kGroup : kRecord;  // from one group to the next
    const int row = 2 * (lane >> 2), t = lane & 3, in_record = first % L::kGroupsPerRecord;
    const uint8_t* record = panel + int64_t{first / L::kGroupsPerRecord} * kRecord;
    const auto clamped = [&](int behind) {
      return panel + int64_t{min(first + behind, p.groups - 1)} * kRecord;
    };
    // The first plane's place in a group, and that of the others, which follow each other.
    const int one = PlaneOffset<L>(0, row, t), others = PlaneOffset<L>(1, row, t);
    const uint8_t* codes = record + L::kScaleBytes + in_record * kGroup;
    const uint8_t *first_one = codes + one, *first_others = codes + others;
#pragma unroll
    for (int i = 0; i < kUnitGroups; ++i) {
      planes[i][0] =
          LoadWordPair(kWhole ? first_one + i * kStep : clamped(i) + L::kScaleBytes + one);
#pragma unroll
      for (int k = 1; k < kPlanes; ++k) {
        const int behind = PlaneOffset<L>(k, 0, 0) - PlaneOffset<L>(1, 0, 0);
        planes[i][k] = LoadWordPair(kWhole ? first_others + (i * kStep + behind)
                                           : clamped(i) + L::kScaleBytes + others + behind);
      }
    }
    const int own_group = Columns(lane).own_group;
    const uint8_t* own = L::kSuper ? record : record + own_group * kRecord;
#pragma unroll
    for (int i = 0; i < Columns::kOperands * Columns::kOwnGroups; ++i) {
      const int behind = i / Columns::kOwnGroups * Columns::kGroups + i % Columns::kOwnGroups;
      const uint8_t* at = L::kSuper ? record
                          : kWhole  ? own + behind * kRecord
                                    : clamped(own_group + behind);
      scales.Load(i, at, in_record + own_group, behind, row);
    }
  }

  // Both rows' codes of a group.
  __device__ __forceinline__ void Codes(int group, int t, CodeWordPair (&rows)[2]) const {
    PlaneWords<L> words[2];
#pragma unroll
    for (int k = 0; k < kPlanes; ++k) {
      words[0].word[k] = planes[group][k].x;
      words[1].word[k] = planes[group][k].y;
    }
    rows[0] = SignedCodes<L>(words[0], t);
    rows[1] = SignedCodes<L>(words[1], t);
  }
};

}  // namespace tq::cuda
