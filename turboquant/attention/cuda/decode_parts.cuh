// SPDX-License-Identifier: Apache-2.0
// From the warps' states to rows of the output or to a block's part of them.
#pragma once

#include "turboquant/attention/cuda/decode_merge.cuh"

namespace tq::cuda {

// A warp's state as a part: outputs in its own ring.
template <class Block>
TQ_DEVICE void LeaveWarpPart(const Block& block,
                             const WarpState<Block::kDim, Block::kSets>& state) {
  const int g = block.lane >> 2, t = block.lane & 3;
  auto* outputs = reinterpret_cast<float*>(block.RingOf(block.warp));  // [kColumns][kRow]
#pragma unroll
  for (int n = 0; n < Block::kSets; ++n) {
    const float l = SumOverRows(state.l[n]);
    if (block.lane < 4) {
      block.template Shared<float2>(block.at.states)[block.warp * Block::kColumns + 4 * n + t] = {
          state.m[n], l};
    }
    float* row = outputs + (4 * n + t) * Block::kRow + g;
#pragma unroll
    for (int i = 0; i < Block::kDim / 8; ++i) row[8 * i] = state.o[n][i];
  }
}

// Parts of the crew's warps that have a column.
template <class Block>
struct WarpParts {
  static constexpr int kBatch = Block::kWide ? kMostWideRuns : 6;
  const Block& block;
  const Crew& crew;

  TQ_DEVICE int Warp(int part, int column) const {
    return crew.first_warp + column / Block::kColumns + part * block.p.step_warps;
  }
  TQ_DEVICE float2 State(int part, int column) const {
    return block.template Shared<float2>(
        block.at.states)[Warp(part, column) * Block::kColumns + column % Block::kColumns];
  }
  TQ_DEVICE float4 Output(int part, int column, int quad) const {
    const auto* outputs = reinterpret_cast<const float*>(block.RingOf(Warp(part, column)));
    return reinterpret_cast<const float4*>(outputs + column % Block::kColumns * Block::kRow)[quad];
  }
};

// Leaves this block's part of a KV head.
template <class Block>
TQ_DEVICE void LeaveBlockPart(const Block& block, const Segment& s, const Crew& crew) {
  using Parts = BlockParts<Block::kDim>;
  float* to = Parts::Of(block.p, BlockId(), s.begin == 0);
  for (int i = crew.thread(); i < block.columns * Block::kQuads; i += crew.threads()) {
    const int column = i / Block::kQuads, quad = i % Block::kQuads;
    const PartialSum sum =
        MergeParts(WarpParts<Block>{block, crew}, 0, 1, crew.phases, column, quad);
    reinterpret_cast<float4*>(to)[i] = sum.o;
    if (quad == 0) Parts::States(block.p, to)[column] = {sum.m, sum.l};
  }
}

// Rows to the model.
template <class Block>
TQ_DEVICE void Finish(const Block& block, const Segment& s, const Crew& crew) {
  const WarpParts<Block> parts = {block, crew};
  for (int c = block.warp - crew.first_warp; c < block.columns; c += crew.warps) {
    if (block.ColumnAt(crew.first_row + c).position < 0) continue;
    float* row = block.Row(crew.first_row + c);
    FinishRow<Block::kDim>(block.p, s, PlaceOf(block.p, s, c), parts, crew.phases, c, row,
                           block.lane);
  }
}

// What a crew does with its warps' parts of a segment.
template <class Block>
TQ_DEVICE void MergeSegment(const Block& block, const Segment& s, const Crew& crew) {
  block.Sync(crew);
  if (s.whole()) {
    Finish(block, s, crew);
    return;
  }
  LeaveBlockPart(block, s, crew);  // merge_heads.cuh does the rest
}

}  // namespace tq::cuda
