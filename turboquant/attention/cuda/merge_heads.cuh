// SPDX-License-Identifier: Apache-2.0
// The outputs of KV heads that several blocks worked on, by a kernel of its own behind theirs: a
// block of a few warps for each row. If the last block to come merges all rows of a head in place
// of that, it counts blocks by atomics behind fences and does alone what many can: .7 us more for 4
// rows of 16 parts, 7 us for 32.
#pragma once

#include "turboquant/attention/cuda/decode_merge.cuh"

namespace tq::cuda {

inline constexpr int kMergeWarps = kMergeThreads / 32;

// The sums of the warps of a block in shared memory, each of some parts of one row.
template <int kDim>
struct MergedParts {
  static constexpr int kBatch = kMergeWarps;
  float4 outputs[kMergeWarps][kDim / 4];
  float2 states[kMergeWarps];
  float row[kDim];

  TQ_DEVICE float2 State(int part, int) const { return states[part]; }
  TQ_DEVICE float4 Output(int part, int, int quad) const { return outputs[part][quad]; }
};

// Blocks: heads to look at times columns. kAges: pages may age.
template <int kDim, bool kAges>
TQ_KERNEL(kMergeThreads, 1)
MergeHeadsKernel(const TQ_GRID_CONSTANT DecodeParams p) {
  LetNextStart();
  const int warp = UniformWarpId(), lane = LaneId();
  const int column = BlockId() & ((1 << p.columns_log) - 1);
  const int number = BlockId() >> p.columns_log;  // of a head, or of the block that begins it
  const bool by_block = p.merges_by_block();
  Share share(p, kAges, by_block ? number + 1 : 0, lane);
  Segment s = {};
  if (!by_block) {
    const int heads = p.kv_heads * p.items;
    s = share.Head(number / heads, number % heads);
  } else if (!share.Done()) {
    s = share.HeadHere();
  }
  const QueryPlace place = PlaceOf(p, s, column);
  const bool any = s.size() > 0;
  const int first = any ? share.FirstBlockOf(s) : 0, count = any ? share.BlocksOf(s) : 0;
  WaitForInputs();
  if (count < 2 || place.token >= s.work.tokens) return;  // a block alone has written its rows
  if (by_block && first != number) return;
  const BlockParts<kDim> parts = {p, first};
  static_assert(sizeof(MergedParts<kDim>) == MergeBytes(kDim));
  auto& merged = *reinterpret_cast<MergedParts<kDim>*>(SharedMemory());
  for (int quad = lane; quad < kDim / 4; quad += 32) {
    const PartialSum sum = MergeParts(parts, warp, kMergeWarps, count, column, quad);
    merged.outputs[warp][quad] = sum.o;
    if (quad == 0) merged.states[warp] = {sum.m, sum.l};
  }
  SyncThreads();
  if (warp == 0) {
    FinishRow<kDim>(p, s, place, merged, kMergeWarps, column, merged.row, lane);
  }
}

}  // namespace tq::cuda
