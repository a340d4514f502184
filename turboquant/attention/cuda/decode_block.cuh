// SPDX-License-Identifier: Apache-2.0
// A block of a decode kernel: its shared memory, its warps, and how they divide into crews.
#pragma once

#include "turboquant/attention/cuda/decode_memory.h"
#include "turboquant/attention/cuda/decode_work.cuh"

namespace tq::cuda {

// The warps that share a segment: a small block of its own but for the queries, which all warps of
// the block prepare together. Consecutive warps of a phase share its units, each with its own
// columns or, in a wide kernel, all of them with all columns.
struct Crew {
  int index;
  int first_phase;
  int phases;
  int first_warp;
  int warps;
  int first_row;  // of its queries among those of the block

  TQ_DEVICE int threads() const { return 32 * warps; }
  TQ_DEVICE int thread() const { return ThreadId() - 32 * first_warp; }
};

// Barriers of some warps: a crew's; in a wide kernel those of the warps that share steps, of these
// and their loader, and of all loaders.
inline constexpr int kCrewBarriers = 1;
inline constexpr int kTeamBarriers = 3;
inline constexpr int kLoadBarriers = kTeamBarriers + kLoaderWarps;
inline constexpr int kLoaderBarrier = kLoadBarriers + kLoaderWarps;
static_assert(kLoaderBarrier < 16);

template <int kHeadDim, int kColumnSets>
struct DecodeBlock {
  static constexpr int kDim = kHeadDim;
  static constexpr int kSets = kColumnSets;
  static constexpr bool kWide = IsWide(kDim, kSets);
  static constexpr int kColumns = kSets * 4;  // of a warp
  static constexpr int kRow = kDim + kRowPad;
  static constexpr int kQuads = kDim / 4;

  const DecodeParams& p;
  std::byte* memory;
  DecodeMemory at;
  int warp, lane, warps;
  int phase;
  int member;   // of the warps that share steps
  int columns;  // of a crew

  TQ_DEVICE DecodeBlock(const DecodeParams& params, int warp_id, int lane_id)
      : p(params), memory(SharedMemory()), warp(warp_id), lane(lane_id) {
    warps = p.phases * p.step_warps;
    if constexpr (kWide) {
      phase = warp / kWideWarps;
    } else {
      phase = p.step_warps == 1
                  ? warp
                  : static_cast<int>(p.by[p.step_warps].Divide(static_cast<uint32_t>(warp)));
    }
    member = warp - phase * p.step_warps;
    columns = kWide ? kColumns : 1 << p.columns_log;
    at = MakeDecodeMemory(kDim, kSets, kWide ? columns : p.crews * columns, warps, p.stage_bytes);
  }

  TQ_DEVICE void Sync(const Crew& crew) const {
    SyncSome(kCrewBarriers + crew.index, crew.threads());
  }

  template <typename T>
  TQ_DEVICE T* Shared(int offset) const {
    return reinterpret_cast<T*>(memory + offset);
  }
  TQ_DEVICE float* Row(int row) const { return Shared<float>(at.row) + row * kRow; }
  TQ_DEVICE Column& ColumnAt(int row) const { return Shared<Column>(at.columns)[row]; }
  TQ_DEVICE const uint32_t* levels() const { return Shared<uint32_t>(at.levels); }
  TQ_DEVICE std::byte* RingOf(int w) const {
    const int ring = kWide ? w / kWideWarps : w;
    return memory + at.ring + ring * kStages * p.stage_bytes;
  }
  TQ_DEVICE std::byte* StageOf(int stage) const { return RingOf(warp) + stage * p.stage_bytes; }

  TQ_DEVICE void CopyLevels() const {
#pragma unroll 1
    for (int i = warp; i < kLevelTableWords; i += warps) {
      Shared<uint32_t>(at.levels)[i * 32 + lane] = p.levels[i];
    }
  }

  TQ_DEVICE Crew MakeCrew(int index, int first_phase, int phases) const {
    return {index,
            first_phase,
            phases,
            first_phase * p.step_warps,
            phases * p.step_warps,
            index << p.columns_log};
  }
  // The most units of a warp.
  TQ_DEVICE int LoadOf(int units, int phases) const {
    return static_cast<int>(p.by[phases].Divide(static_cast<uint32_t>(units + phases - 1)));
  }
  // Phases of the first crew if two segments are worked on at once; 0 if it is faster to take one
  // after the other, which costs as much as a few units but leaves no crew idle.
  TQ_DEVICE int SplitPhases(int first, int second) const {
    constexpr int kCostOfAnother = 3;
    const float part = FastDivide(static_cast<float>(first), static_cast<float>(first + second));
    int low = static_cast<int>(part * static_cast<float>(p.phases));
    low = low < 1 ? 1 : low > p.phases - 1 ? p.phases - 1 : low;
    const int high = low < p.phases - 1 ? low + 1 : low;
    const auto load = [&](int phases) {
      const int a = LoadOf(first, phases), b = LoadOf(second, p.phases - phases);
      return a > b ? a : b;
    };
    const int split = load(high) < load(low) ? high : low;
    return load(split) <= LoadOf(first + second, p.phases) + kCostOfAnother ? split : 0;
  }
};

}  // namespace tq::cuda
