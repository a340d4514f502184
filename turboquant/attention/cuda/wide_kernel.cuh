// SPDX-License-Identifier: Apache-2.0
// Decode attention for more query rows than one warp's registers hold. A block takes the segments
// of its share one after the other; four warps share each step of a run of units (wide_run.cuh),
// and of the last four one loads for each run. The two kinds need different numbers of registers,
// so nothing but the number of the next unit outlives the part of either.
#pragma once

#include "turboquant/attention/cuda/decode_parts.cuh"
#include "turboquant/attention/cuda/wide_queries.cuh"
#include "turboquant/attention/cuda/wide_run.cuh"

namespace tq::cuda {

// Registers of a thread: what the kernel starts with, and what the two kinds of warps have.
inline constexpr int kSharedRegisters = 128;
inline constexpr int kWideRegisters = 160;
inline constexpr int kLoaderRegisters = 32;

// Of warps that attend: a segment from its queries to its part of the output.
template <class Pair, class Block>
TQ_DEVICE void AttendWideSegment(const Block& block, const Segment& s) {
  block.CopyLevels();
  WaitForInputs();
  PrepareWideQueries(block, s);
  SyncThreads();
  const UnitRange units = UnitsOf(block.p, s, block.phase, block.p.phases);
  AttendWide<Pair>(block, units.end - units.begin);
}

// Of a loader.
template <class Pair, class Block>
TQ_DEVICE void LoadWideSegment(const Block& block, const Segment& s) {
  Cursor cursor = StartRun<Pair>(block, s, block.MakeCrew(0, 0, block.p.phases));
  const int units = cursor.end - cursor.next;
  const Unit unit = cursor.unit;
  Unit next = unit;
#pragma unroll 1
  for (int stage = 0; stage < kStages; ++stage) {
    next = cursor.unit;
    // Pages that are older than the kernel before this one need not wait for it.
    if (!block.p.overlap || next.form == kOpenForm) WaitForInputs();
    LoadNext<Pair>(block, s, stage, stage == 0, cursor);
  }
  WaitForInputs();
  SyncThreads();
  LoadWide<Pair>(block, s, units, unit, next, cursor);
}

template <int kDim, int kSets, class Pair>
TQ_KERNEL((kMostDecodeWarps + kLoaderWarps) * 32, 1)
WideKernel(const TQ_GRID_CONSTANT DecodeParams p) {
  using Block = DecodeBlock<kDim, kSets>;
  LetNextStart();
  uint32_t next = 0;
  for (bool first = true, more = true; more; first = false) {
    const int thread = ThreadIdAgain();
    const int warp = Shuffle(thread >> 5, 0), lane = thread & 31;
    Share share(p, Pair::kAges, BlockId(), lane);
    if (!first) share.GoTo(next);
    Segment s = {};
    while (!share.Done() && s.units() <= 0) s = share.Next();
    if (s.units() <= 0) break;
    next = share.at();
    more = !share.Done();
    const int attending = p.phases * kWideWarps;
    if (warp < attending) {
      TakeRegisters<kWideRegisters>();
      const Block block(p, warp, lane);
      AttendWideSegment<Pair>(block, s);
      MergeSegment(block, RunOf(block).segment, block.MakeCrew(0, 0, p.phases));
      LeaveRegisters<kSharedRegisters>();
    } else {
      LeaveRegisters<kLoaderRegisters>();
      if (warp - attending < p.phases) {
        LoadWideSegment<Pair>(Block(p, (warp - attending) * kWideWarps, lane), s);
      } else {
        WaitForInputs();
        SyncThreads();
      }
      SyncSome(kLoaderBarrier, 32 * kLoaderWarps);  // they change their registers together
      TakeRegisters<kSharedRegisters>();
    }
    SyncThreads();  // rows, states and rings are the next round's
  }
  WaitForInputs();  // blocks without work too: else the kernel might end before the one before it
}

}  // namespace tq::cuda
