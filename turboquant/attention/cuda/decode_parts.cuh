// SPDX-License-Identifier: Apache-2.0
// From the warps' states to rows of the output: parts of warps, of blocks and of teams of threads,
// where they lie and who merges them.
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

// Parts of a crew's teams, where the parts of its warps were. A team has a thread for every four
// outputs.
template <class Block>
struct TeamParts {
  const Block& block;
  const Crew& crew;

  TQ_DEVICE int size() const {
    const int teams = (crew.threads() >> block.p.columns_log) / Block::kQuads;
    return teams > 1 ? teams : 1;
  }
  TQ_DEVICE int RowOf(int part, int column) const { return (part << block.p.columns_log) + column; }
  TQ_DEVICE float2* StateAt(int row) const {
    return block.template Shared<float2>(block.at.states) + crew.first_warp * Block::kColumns + row;
  }
  TQ_DEVICE float4* OutputsAt(int row) const {
    auto* outputs = reinterpret_cast<float*>(block.RingOf(crew.first_warp));
    return reinterpret_cast<float4*>(outputs + row * Block::kRow);
  }
  TQ_DEVICE float2 State(int part, int column) const { return *StateAt(RowOf(part, column)); }
  TQ_DEVICE float4 Output(int part, int column, int quad) const {
    return OutputsAt(RowOf(part, column))[quad];
  }
};

// Parts of warps that are loaded together: in a wide kernel there are no more.
template <class Block>
inline constexpr int kPartsOfWarps = Block::kWide ? kMostDecodeWarps / kWideWarps : 6;

// Leaves this block's part of a KV head.
template <class Block>
TQ_DEVICE void LeaveBlockPart(const Block& block, const Segment& s, const Crew& crew) {
  using Parts = BlockParts<Block::kDim>;
  float* to = Parts::Of(block.p, BlockId(), s.begin == 0);
  for (int i = crew.thread(); i < block.columns * Block::kQuads; i += crew.threads()) {
    const int column = i / Block::kQuads, quad = i % Block::kQuads;
    const PartialSum sum =
        MergeParts<kPartsOfWarps<Block>>(WarpParts<Block>{block, crew}, 0, 1, crew.phases, column,
                                         quad);
    reinterpret_cast<float4*>(to)[i] = sum.o;
    if (quad == 0) Parts::States(block.p, to)[column] = {sum.m, sum.l};
  }
}

// True if this block's part of a KV head was the last one to come.
template <class Block>
TQ_DEVICE bool WasLast(const Block& block, const Segment& s, const Crew& crew) {
  const DecodeParams& p = block.p;
  block.Sync(crew);
  int* flag = block.template Shared<int>(block.at.flags) + crew.index;
  if (crew.thread() == 0) {
    uint32_t* counter = p.counters + (s.work.slot * p.kv_heads + s.head) * p.items + s.item;
    const auto units = static_cast<uint32_t>(s.units());
    const bool last = AddInOrder(counter, units) + units == static_cast<uint32_t>(s.size());
    if (last) *counter = 0;  // for the next launch
    *flag = last ? 1 : 0;
  }
  block.Sync(crew);
  return *flag != 0;
}

// Each team merges every size()-th part of the blocks.
template <class Block>
TQ_DEVICE void LeaveTeamParts(const TeamParts<Block>& teams, const BlockParts<Block::kDim>& parts,
                              int count) {
  const Block& block = teams.block;
  const int rows = teams.size() << block.p.columns_log;
  for (int i = teams.crew.thread(); i < rows * Block::kQuads; i += teams.crew.threads()) {
    const int row = i / Block::kQuads, quad = i % Block::kQuads;
    const PartialSum sum =
        MergeParts(parts, row >> block.p.columns_log, teams.size(), count,
                   row & (block.columns - 1), quad);
    if (quad == 0) *teams.StateAt(row) = {sum.m, sum.l};
    teams.OutputsAt(row)[quad] = sum.o;
  }
}

// Rows to the model.
template <class Block, class Parts>
TQ_DEVICE void Finish(const Block& block, const Segment& s, const Crew& crew, const Parts& parts,
                      int count) {
  for (int c = block.warp - crew.first_warp; c < block.columns; c += crew.warps) {
    if (block.ColumnAt(crew.first_row + c).position < 0) continue;
    float* row = block.Row(crew.first_row + c);
    FinishRow<Block::kDim>(block.p, s, PlaceOf(block.p, s, c), parts, count, c, row, block.lane);
  }
}

// What a crew does with its warps' parts of a segment.
template <class Block>
TQ_DEVICE void MergeSegment(const Block& block, const Segment& s, const Crew& crew,
                            const Share& share) {
  block.Sync(crew);
  if (s.whole()) {
    Finish(block, s, crew, WarpParts<Block>{block, crew}, crew.phases);
    return;
  }
  LeaveBlockPart(block, s, crew);
  if constexpr (!Block::kWide) {  // else merge_heads.cuh does the rest
    if (!WasLast(block, s, crew)) return;
    const BlockParts<Block::kDim> parts = {block.p, share.FirstBlockOf(s)};
    const TeamParts<Block> teams = {block, crew};
    LeaveTeamParts(teams, parts, share.BlocksOf(s));
    block.Sync(crew);
    Finish(block, s, crew, teams, teams.size());
  }
}

}  // namespace tq::cuda
