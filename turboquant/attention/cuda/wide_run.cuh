// SPDX-License-Identifier: Apache-2.0
// A run of units of the warps that share their steps (wide_step.cuh), from queries to their part.
// One more warp loads for them: their registers are full, and their time is what the run takes.
// They meet it once a step, when all that the step reads of its stage is in registers.
#pragma once

#include "turboquant/attention/cuda/decode_pages.cuh"
#include "turboquant/attention/cuda/decode_queries.cuh"
#include "turboquant/attention/cuda/wide_step.cuh"

namespace tq::cuda {

// What a page adds to the scores of its tokens: kCount sets of rows.
template <int kCount, class Block, int kDim, int kSets>
TQ_DEVICE void LeaveReferences(const Block& block, const WideWarp<kDim, kSets>& warp, int first_set,
                               const std::byte* stage, float* references) {
  float sum[kCount];
  ReferenceProducts(block, stage, 4 * first_set, sum);
  const int g = warp.lane >> 2;
#pragma unroll
  for (int n = 0; n < kCount; ++n) {
    if (g == n) references[warp.RowOf(first_set + n)] = sum[n];
  }
}

// The warps' states as a part of the first one, outputs in their ring.
template <class Block, int kDim, int kSets>
TQ_DEVICE void LeaveWidePart(const Block& block, const WideWarp<kDim, kSets>& warp,
                             const WideState<kDim, kSets>& state) {
  const int g = warp.lane >> 2;
  auto* outputs = reinterpret_cast<float*>(block.RingOf(block.warp));  // [kColumns][kRow]
#pragma unroll
  for (int n = 0; n < kSets; ++n) {
    const float l = SumOverRows(state.l[n]);
    if (g == 0) warp.exchange.largest[warp.index][warp.RowOf(n)] = l;
    float* row = outputs + warp.RowOf(n) * Block::kRow + warp.index * (kDim / kWideWarps) + g;
#pragma unroll
    for (int i = 0; i < state.kOutputs; ++i) row[8 * i] = state.o[n][i];
  }
  warp.Sync();
  if (warp.index == 0 && warp.lane < 4 * kSets) {
    float l = 0;
#pragma unroll
    for (int i = 0; i < kWideWarps; ++i) l += warp.exchange.largest[i][warp.lane];
    block.template Shared<float2>(block.at.states)[block.warp * Block::kColumns + warp.lane] = {
        -warp.exchange.columns[warp.lane].minus_m, l};
  }
}

// What a run is about and where it stands, from its loader.
struct WideRun {
  struct Place {
    Unit unit;
    bool visible;  // all its tokens are, to every query
  };
  Segment segment;
  Place places[2];  // of even and odd steps
};
static_assert(sizeof(WideRun) <= kWideRunBytes);

template <class Block>
TQ_DEVICE auto MakeWideWarp(const Block& block) {
  constexpr int kSets = Block::kSets;
  return WideWarp<Block::kDim, kSets>{*block.template Shared<WideExchange<kSets>>(
                                          block.at.exchange + block.phase * kWideExchangeBytes),
                                      block.memory + block.at.bytes,
                                      &block.ColumnAt(0),
                                      block.member,
                                      block.lane,
                                      block.phase};
}
template <class Block>
TQ_DEVICE WideRun& RunOf(const Block& block) {
  return *block.template Shared<WideRun>(block.at.runs + block.phase * kWideRunBytes);
}

// unit, next: the first two steps, which are on their way; cursor: behind them.
template <class Pair, class Block>
TQ_DEVICE void LoadWide(const Block& block, const Segment& s, int units, Unit unit, Unit next,
                        Cursor cursor) {
  const auto warp = MakeWideWarp(block);
  WideRun& run = RunOf(block);
  const auto leave_place = [&](int step, const Unit& u) {
    const int tokens = WideStepTokens(u.form == kOpenForm);
    run.places[step & 1] = {u, StepMask{block.p, run.segment, u}.template All<false>(tokens)};
  };
  if (warp.lane == 0) {
    run.segment = s;
    leave_place(0, unit);
  }
  SyncWarp();
  CopyWait<1>();
  warp.SyncWithLoader();
  for (int i = 0; i < units; ++i) {
    CopyWait<0>();
    SyncWarp();
    if (i + 1 < units) {
      // A page has one vector, which came with its first step.
      static_assert(WideStepTokens(true) * 2 >= kPageTokens);
      const std::byte* stage = block.StageOf((next.token == 0 ? i + 1 : i) & 1);
      constexpr int kCount = 2;  // at once: registers are few
#pragma unroll 1
      for (int set = 0; set < Block::kSets; set += kCount) {
        LeaveReferences<kCount>(block, warp, set, stage, warp.exchange.references[(i + 1) & 1]);
      }
      if (warp.lane == 0) leave_place(i + 1, next);
    }
    warp.SyncWithLoader();
    next = cursor.unit;
    LoadNext<Pair>(block, run.segment, i & 1, false, cursor);
  }
}

template <class Pair, class Block>
TQ_DEVICE void AttendWide(const Block& block, int units) {
  constexpr int kDim = Block::kDim, kSets = Block::kSets;
  const auto warp = MakeWideWarp(block);
  const WideRun& run = RunOf(block);
  if (warp.index == 0 && warp.lane < 4 * kSets) {
    warp.exchange.columns[warp.lane] = {warp.rows[warp.lane].scale, -kLeastScore};
  }
  warp.SyncWithLoader();
  if (units > 0) {
    constexpr int kCount = kSets / kWideWarps;
    LeaveReferences<kCount>(block, warp, kCount * warp.index, block.StageOf(0),
                            warp.exchange.references[0]);
  }
  warp.Sync();
  WideState<kDim, kSets> state;
  state.Clear();
  for (int i = 0; i < units; ++i) {
    const WideRun::Place& place = run.places[i & 1];
    const StepMask mask = {block.p, run.segment, place.unit};
    Pair::template WithWideStep<kDim>(place.unit.form, [&]<class K, class V, int kTiles>() {
      WideStep<K, V, kTiles>(warp, block.StageOf(i & 1), block.levels(),
                             warp.exchange.references[i & 1], mask, place.visible, i == 0, state);
    });
  }
  LeaveWidePart(block, warp, state);
}

}  // namespace tq::cuda
