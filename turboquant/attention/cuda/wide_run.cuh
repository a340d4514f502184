// SPDX-License-Identifier: Apache-2.0
// A run of units of the warps that share their steps (wide_step.cuh), from queries to their part.
// Stages of their ring: one that is read, one that has come or is on its way, and one that other
// warps may still read until all meet in the middle of a step.
#pragma once

#include "turboquant/attention/cuda/decode_pages.cuh"
#include "turboquant/attention/cuda/decode_queries.cuh"
#include "turboquant/attention/cuda/wide_step.cuh"

namespace tq::cuda {

// What a page adds to the scores of its tokens, by all warps but one, which has other things to do.
template <class Block, int kDim, int kSets>
TQ_DEVICE void LeaveReferences(const Block& block, const WideWarp<kDim, kSets>& warp, int but,
                               const std::byte* stage) {
  constexpr int kOwn = (kSets + kWideWarps - 2) / (kWideWarps - 1);
  const int first_set = (warp.index - but + kWideWarps - 1) % kWideWarps * kOwn;
  if (first_set >= kOwn * (kWideWarps - 1)) return;
  float sum[kOwn];  // the last warp's may lie behind the rows: of query bytes, and unused
  ReferenceProducts(block, stage, 4 * first_set, sum);
  const int g = warp.lane >> 2;
#pragma unroll
  for (int n = 0; n < kOwn; ++n) {
    if (g == n && first_set + n < kSets) warp.ColumnAt(first_set + n).reference = sum[n];
  }
}

// The warps' states as a part of the first one, outputs in their ring.
template <class Block, int kDim, int kSets>
TQ_DEVICE void LeaveWidePart(const Block& block, const WideWarp<kDim, kSets>& warp,
                             const WideState<kDim, kSets>& state) {
  const int g = warp.lane >> 2;
  warp.Sync();  // all have read their last stage
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

// What a run is about and where it stands before each step, for all its warps in shared memory:
// their registers are full, and one of them, in turns, finds and loads what comes for all.
struct WideRun {
  struct Place {
    Unit unit;     // of this step
    bool visible;  // all its tokens are, to every query
    Unit next;
    Cursor cursor;  // behind them
    uint32_t id;    // of its page, by a copy that may come later than the cursor is stored
  };
  Segment segment;
  Place places[2];  // of even and odd steps
};
static_assert(sizeof(WideRun) <= kWideRunBytes);

TQ_DEVICE bool AllVisibleTo(const DecodeParams& p, const Segment& s, const Unit& unit) {
  return StepMask{p, s, unit}.All<false>(WideStepTokens(unit.form == kOpenForm));
}

template <class Pair, class Block>
TQ_DEVICE void AttendWide(const Block& block, const Segment& s, int units, Unit unit, Unit next,
                          Cursor cursor) {
  constexpr int kDim = Block::kDim, kSets = Block::kSets;
  const WideWarp<kDim, kSets> warp = {*block.template Shared<WideExchange<kSets>>(
                                          block.at.exchange + block.phase * kWideExchangeBytes),
                                      block.memory + block.at.bytes,
                                      &block.ColumnAt(0),
                                      block.member,
                                      block.lane,
                                      1 + block.phase};
  WideRun& run = *block.template Shared<WideRun>(block.at.runs + block.phase * kWideRunBytes);
  if (warp.index == 0) {
    if (warp.lane < 4 * kSets) {
      const Column& row = warp.rows[warp.lane];
      warp.exchange.columns[warp.lane] = {row.scale, -kLeastScore, 0, row.position};
    }
    if (warp.lane == 0) {
      run.segment = s;
      run.places[0] = {unit, AllVisibleTo(block.p, s, unit), next, cursor, cursor.id};
    }
  }
  CopyWait<1>();
  warp.Sync();
  if (units > 0) LeaveReferences(block, warp, 0, block.StageOf(0));
  warp.Sync();
  WideState<kDim, kSets> state;
  state.Clear();
  int at = 0;  // of the stage that is read
  for (int i = 0; i < units; ++i) {
    const int second = at == 2 ? 0 : at + 1, third = at == 0 ? 2 : at - 1;
    const WideRun::Place& place = run.places[i & 1];
    const auto between = [&] {
      const int loader = i % kWideWarps;
      if (warp.index == loader) {
        WideRun::Place& to = run.places[(i + 1) & 1];
        Cursor cursor = place.cursor;
        cursor.id = place.id;
        const Unit next = place.next, behind = cursor.unit;
        // The id of another page comes like the pages themselves: nobody waits for it.
        bool same_page = true;
        LoadNext<Pair>(block, run.segment, third, false, cursor, [&](const uint32_t* id) {
          if (warp.lane == 0) CopyAsync(&to.id, id);
          same_page = false;
        });
        const bool visible = AllVisibleTo(block.p, run.segment, next);
        if (warp.lane == 0) {
          to.unit = next;
          to.visible = visible;
          to.next = behind;
          to.cursor = cursor;
          if (same_page) to.id = cursor.id;
        }
      }
      if (i + 1 < units && place.next.token == 0) {
        LeaveReferences(block, warp, loader, block.StageOf(second));
      }
    };
    const StepMask mask = {block.p, run.segment, place.unit};
    Pair::template WithWideStep<kDim>(place.unit.form, [&]<class K, class V, int kTiles>() {
      WideStep<K, V, kTiles>(warp, block.StageOf(at), block.levels(), mask, place.visible, i == 0,
                             state, between);
    });
    at = second;
  }
  CopyWait<0>();
  LeaveWidePart(block, warp, state);
}

}  // namespace tq::cuda
