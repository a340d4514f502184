// SPDX-License-Identifier: Apache-2.0
// From the warps' states to rows of the output: parts of warps, of blocks and of teams of threads,
// where they lie and who merges them.
#pragma once

#include "turboquant/attention/cuda/decode_merge.cuh"
#include "turboquant/attention/cuda/decode_queries.cuh"

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
    if constexpr (Block::kWide) return crew.first_warp + part * kWideWarps;
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

// Parts of consecutive blocks in global memory; the first one begins the head.
template <class Block>
struct BlockParts {
  const Block& block;
  int first;

  // O of the columns, then m and l of each.
  TQ_DEVICE static float* Of(const Block& block, int number, bool begins_head) {
    return block.p.partials +
           (static_cast<int64_t>(2 * number + (begins_head ? 1 : 0)) * (Block::kDim + 2)
            << block.p.columns_log);
  }
  TQ_DEVICE static float2* States(const Block& block, float* part) {
    return reinterpret_cast<float2*>(part + block.columns * Block::kDim);
  }
  TQ_DEVICE float2 State(int part, int column) const {
    return LoadL2(States(block, Of(block, first + part, part == 0)) + column);
  }
  TQ_DEVICE float4 Output(int part, int column, int quad) const {
    return LoadL2(reinterpret_cast<const float4*>(Of(block, first + part, part == 0)) +
                  column * Block::kQuads + quad);
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

// Leaves this block's part of a KV head. True if it was the last one to come.
template <class Block>
TQ_DEVICE bool LeaveBlockPart(const Block& block, const Segment& s, const Crew& crew) {
  const DecodeParams& p = block.p;
  using Parts = BlockParts<Block>;
  float* to = Parts::Of(block, BlockId(), s.begin == 0);
  for (int i = crew.thread(); i < block.columns * Block::kQuads; i += crew.threads()) {
    const int column = i / Block::kQuads, quad = i % Block::kQuads;
    const PartialSum sum =
        MergeParts(WarpParts<Block>{block, crew}, 0, 1, crew.phases, column, quad);
    reinterpret_cast<float4*>(to)[i] = sum.o;
    if (quad == 0) Parts::States(block, to)[column] = {sum.m, sum.l};
  }
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

// Each team merges every size()-th part of the blocks [first, last].
template <class Block>
TQ_DEVICE void LeaveTeamParts(const TeamParts<Block>& teams, int first, int last) {
  // A thread has several quads where there are many rows, each as late as its rounds of loads.
  constexpr int kBatch = Block::kWide ? 16 : 6;
  const Block& block = teams.block;
  const int rows = teams.size() << block.p.columns_log;
  for (int i = teams.crew.thread(); i < rows * Block::kQuads; i += teams.crew.threads()) {
    const int row = i / Block::kQuads, quad = i % Block::kQuads;
    const PartialSum sum =
        MergeParts<kBatch>(BlockParts<Block>{block, first}, row >> block.p.columns_log,
                           teams.size(), last - first + 1, row & (block.columns - 1), quad);
    if (quad == 0) *teams.StateAt(row) = {sum.m, sum.l};
    teams.OutputsAt(row)[quad] = sum.o;
  }
}

// Rows to the model: parts merged, divided by l, rotated back.
template <class Block, class Parts>
TQ_DEVICE void Finish(const Block& block, const Segment& s, const Crew& crew, const Parts& parts,
                      int count) {
  const DecodeParams& p = block.p;
  for (int c = block.warp - crew.first_warp; c < block.columns; c += crew.warps) {
    if (block.ColumnAt(crew.first_row + c).position < 0) continue;
    float* row = block.Row(crew.first_row + c);
    for (int quad = block.lane; quad < Block::kQuads; quad += 32) {
      const PartialSum sum = MergeParts(parts, 0, 1, count, c, quad);
      float4 out = {};
      AddScaled(sum.l > 0 ? FastDivide(1.0f, sum.l) : 0.0f, sum.o, out);
      *reinterpret_cast<float4*>(row + quad * 4) = out;
    }
    SyncWarp();
    if (p.rotate_out) RotateRow<Block::kDim>(p.out_rotation, row, block.lane);
    const QueryPlace place = PlaceOf(block, s, c);
    float* to = p.out + (s.work.first_row + place.token) * p.out_stride + place.head * Block::kDim;
    for (int d = block.lane; d < Block::kDim; d += 32) to[d] = row[d];
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
  const bool last = LeaveBlockPart(block, s, crew);
  if (!last) return;
  const TeamParts<Block> teams = {block, crew};
  LeaveTeamParts(teams, share.BlockOf(s.global),
                 share.BlockOf(s.global + static_cast<uint32_t>(s.size()) - 1));
  block.Sync(crew);
  Finish(block, s, crew, teams, teams.size());
}

}  // namespace tq::cuda
