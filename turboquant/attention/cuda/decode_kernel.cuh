// SPDX-License-Identifier: Apache-2.0
// Decode attention, one kernel for everything: a fixed grid of blocks shares the list of all units
// (decode_units.h) of all slots and KV heads evenly and in order (decode_work.cuh). A block's share
// of one KV head is a segment; short ones are worked on two at once, each by its crew of warps
// (decode_block.cuh). Warps take consecutive runs of units, each through its own double buffer in
// shared memory (decode_pages.cuh); for many query rows there are wide kernels (wide_kernel.cuh). A
// segment that is not a whole KV head leaves a partial for the kernel behind (merge_heads.cuh).
#pragma once

#include "turboquant/attention/cuda/decode_instances.h"
#include "turboquant/attention/cuda/decode_pages.cuh"
#include "turboquant/attention/cuda/decode_parts.cuh"

namespace tq::cuda {

// A warp's run of units, from its queries to its part. `unit` and `next`, its first two, are on
// their way; `cursor` stands behind them.
template <class Pair, class Block>
TQ_DEVICE void AttendAlone(const Block& block, const Segment& s, int units, Unit unit, Unit next,
                           Cursor cursor, int first_row) {
  WarpState<Block::kDim, Block::kSets> state;
  state.Clear();
  LoadColumns(block, first_row, state);
  bool new_page = true;
  for (int i = 0; i < units; ++i) {
    CopyWait<1>();
    SyncWarp();
    const std::byte* stage = block.StageOf(i & 1);
    if (new_page) AddReference(block, stage, first_row, state);
    const StepMask mask = {block.p, s, unit};
    Pair::Step(block.p, unit.form, stage, block.levels(), block.lane, mask, state);
    SyncWarp();
    unit = next;
    new_page = unit.token == 0;
    next = cursor.unit;
    LoadNext<Pair>(block, s, i & 1, false, cursor);
  }
  CopyWait<0>();
  LeaveWarpPart(block, state);
}

// One segment, or two at once (split: phases of the first one's crew), each from its queries to its
// part of the output.
template <class Pair, class Block>
TQ_DEVICE void AttendSegments(const Block& block, const Segment& first, const Segment& second,
                              int split) {
  const DecodeParams& p = block.p;
  const Crew crew = split == 0            ? block.MakeCrew(0, 0, p.phases)
                    : block.phase < split ? block.MakeCrew(0, 0, split)
                                          : block.MakeCrew(1, split, p.phases - split);
  const int rows = (split == 0 ? 1 : 2) << p.columns_log;
  const Segment s = Select(crew.index == 0, first, second);
  Cursor cursor = StartRun<Pair>(block, s, crew);
  const int units = cursor.end - cursor.next;
  const Unit unit = cursor.unit;
  // Queries would have to wait behind the pages, so they come first. But if they may not be there
  // yet, pages that are older than the kernel before this one need not wait for them.
  const bool early = p.overlap && unit.form != kOpenForm;
  if (early) LoadNext<Pair>(block, s, 0, true, cursor);
  WaitForInputs();
  CopyQueries(block, first, second, rows);
  CopyCommit();
  Unit next = unit;
#pragma unroll 1
  for (int stage = early ? 1 : 0; stage < 2; ++stage) {
    next = cursor.unit;
    LoadNext<Pair>(block, s, stage, stage == 0, cursor);
  }
  if (early) {
    CopyWait<1>();
  } else {
    CopyWait<2>();
  }
  SyncWarp();
  PrepareQueries(block, rows);
  SyncThreads();
  AttendAlone<Pair>(block, s, units, unit, next, cursor,
                    crew.first_row + block.member * Block::kColumns);
  MergeSegment(block, s, crew);
}

template <int kDim, int kSets, class Pair>
TQ_KERNEL(MaxWarps(kDim, kSets) * 32, 1)
DecodeKernel(const TQ_GRID_CONSTANT DecodeParams p) {
  LetNextStart();
  const DecodeBlock<kDim, kSets> block(p, UniformWarpId(), LaneId());
  Share share(p, Pair::kAges, BlockId(), block.lane);
  block.CopyLevels();
  for (;;) {
    Segment first = {}, second = {};
    int segments = 0;
    while (segments < p.crews && !share.Done()) {
      const Segment next = share.Next();
      if (next.units() <= 0) continue;
      first = Select(segments == 0, next, first);
      second = next;
      ++segments;
    }
    if (segments == 0) break;
    int split = 0;
    if (segments == 2) {
      split = block.SplitPhases(first.units(), second.units());
      if (split == 0) share.PutBack(second);
    }
    AttendSegments<Pair>(block, first, second, split);
    SyncThreads();  // rows, states and rings are the next round's
  }
  WaitForInputs();  // blocks without work too: else the kernel might end before the one before it
}

}  // namespace tq::cuda
