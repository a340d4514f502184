// SPDX-License-Identifier: Apache-2.0
// Decode attention, one kernel for everything: a fixed grid of blocks shares the list of all units
// (decode_units.h) of all slots and KV heads evenly and in order (decode_work.cuh). A block's share
// of one KV head is a segment; two segments are worked on at once, each by its crew of warps. Warps
// take consecutive runs of units, each through its own double buffer in shared memory. A segment
// that is not a whole KV head leaves a partial; the crew that finishes the last one merges them.
#pragma once

#include "turboquant/attention/cuda/decode_instances.h"
#include "turboquant/attention/cuda/decode_memory.h"
#include "turboquant/attention/cuda/decode_merge.cuh"
#include "turboquant/attention/cuda/decode_stamps.cuh"
#include "turboquant/attention/cuda/decode_step.cuh"
#include "turboquant/attention/cuda/decode_work.cuh"
#include "turboquant/codec/cuda/rotation.cuh"

namespace tq::cuda {

template <int kDim, int kSets, class Pair>
struct DecodeBlock {
  static constexpr int kColumns = kSets * 4;  // of a warp
  static constexpr int kRow = kDim + kRowPad;
  static constexpr int kQuads = kDim / 4;

  const DecodeParams& p;
  std::byte* memory;
  DecodeMemory at;
  int warp, lane, g, t, warps;
  int columns;  // of a crew

  TQ_DEVICE explicit DecodeBlock(const DecodeParams& params) : p(params), memory(SharedMemory()) {
    warp = WarpId();
    lane = LaneId();
    g = lane >> 2;
    t = lane & 3;
    warps = Threads() >> 5;
    columns = 1 << p.columns_log;
    at = MakeDecodeMemory(kDim, p.crews * columns, kColumns, warps, p.stage_bytes);
  }

  template <typename T>
  TQ_DEVICE T* Shared(int offset) const {
    return reinterpret_cast<T*>(memory + offset);
  }
  TQ_DEVICE float* Row(int row) const { return Shared<float>(at.row) + row * kRow; }

  // The warps that share a segment: a small block of its own but for the queries, which all warps
  // of the block prepare together.
  struct Crew {
    int index;
    int first_phase;
    int phases;
    int first_warp;
    int warps;
    int first_row;  // of its queries among those of the block
  };
  TQ_DEVICE Crew MakeCrew(int index, int first_phase, int phases) const {
    return {index,
            first_phase,
            phases,
            first_phase * p.column_groups,
            phases * p.column_groups,
            index << p.columns_log};
  }
  TQ_DEVICE int Phase() const {
    return p.column_groups == 1
               ? warp
               : static_cast<int>(p.by[p.column_groups].Divide(static_cast<uint32_t>(warp)));
  }
  // The warps' part in two segments is as large as their units'.
  TQ_DEVICE Crew SplitCrews(const Segment& first, const Segment& second) const {
    const auto units = static_cast<float>(first.units());
    const float part = FastDivide(units, units + static_cast<float>(second.units()));
    int split = RoundToInt(part * static_cast<float>(p.phases));
    split = split < 1 ? 1 : split >= p.phases ? p.phases - 1 : split;
    return Phase() < split ? MakeCrew(0, 0, split) : MakeCrew(1, split, p.phases - split);
  }
  TQ_DEVICE void Sync(const Crew& crew) const { SyncSome(1 + crew.index, 32 * crew.warps); }

  // Parameters lie in constant memory, cold at first: every warp fetches a line of them, so that
  // nobody waits for one line after the other.
  TQ_DEVICE void TouchParameters() const {
    constexpr int kLine = 64 / 4;
    const int word = warp * kLine;
    if (word < static_cast<int>(sizeof(DecodeParams) / 4)) {
      Shared<uint32_t>(at.flags)[4 + warp] = reinterpret_cast<const uint32_t*>(&p)[word];
    }
  }
  TQ_DEVICE void CopyLevels() const {
#pragma unroll 1
    for (int i = warp; i < kLevelTableWords; i += warps) {
      Shared<uint32_t>(at.levels)[i * 32 + lane] = p.levels[i];
    }
  }

  // Where a query row of a segment lies in q and in out: in which query head of which token.
  struct QueryPlace {
    int token;
    int head;
  };
  TQ_DEVICE QueryPlace PlaceOf(const Segment& s, int column) const {
    const int r = s.item * columns + column;
    const auto token = static_cast<int>(p.by_group.Divide(static_cast<uint32_t>(r)));
    return {token, s.head * p.group + r - token * p.group};
  }

  // Asks for the rows of a round: the first crew's columns, then the second one's. Zeros where
  // there is no query.
  TQ_DEVICE void CopyQueries(const Segment& first, const Segment& second, int rows) const {
    for (int r = warp; r < rows; r += warps) {
      const Segment s = Select(r < columns, first, second);
      const QueryPlace place = PlaceOf(s, r & (columns - 1));
      const bool valid = place.token < s.work.tokens;
      const float* from =
          valid ? p.q + (s.work.first_row + place.token) * p.q_stride + place.head * kDim : p.q;
      for (int d = lane * 4; d < kDim; d += 128) {
        CopyAsync(reinterpret_cast<std::byte*>(Row(r) + d),
                  reinterpret_cast<const std::byte*>(from + d), valid ? 16 : 0);
      }
      if (lane == 0) {
        Shared<Column>(at.columns)[r].position = valid ? s.work.first_position + place.token : -1;
      }
    }
  }

  // Rotated rows of floats, their 16-bit form, scale and sum.
  TQ_DEVICE void PrepareQueries(int rows) const {
    constexpr int kParts = (kDim + 31) / 32;
    for (int r = warp; r < rows; r += warps) {
      float* row = Row(r);
      if (p.rotate_q) RotateRow<kDim>(p.q_rotation, row, lane);
      float x[kParts];
      float largest = 1e-20f;  // queries of nothing too have a scale
#pragma unroll
      for (int j = 0; j < kParts; ++j) {
        const int d = 32 * j + lane;
        x[j] = d < kDim ? row[d] * p.score_scale : 0.0f;
        if (d < kDim) row[d] = x[j];
        largest = Max(largest, Abs(x[j]));
      }
      largest = BitsToFloat(LargestOfLanes(FloatBits(largest)));
      constexpr float kLargest = 32600.0f;  // bytes of it and its products stay in range
      const float inverse = FastDivide(kLargest, largest);
      int8_t* low = Shared<int8_t>(at.bytes) + r * 2 * kDim;
      int32_t sum = 0;
#pragma unroll
      for (int j = 0; j < kParts; ++j) {
        const int d = 32 * j + lane;
        const int value = RoundToInt(x[j] * inverse);
        const int high = (value + 128) >> 8;
        if (d < kDim) {
          low[d] = static_cast<int8_t>(value - high * 256);
          low[kDim + d] = static_cast<int8_t>(high);
        }
        sum += value;
      }
      sum = SumOfLanes(sum);
      if (lane == 0) {
        Column& column = Shared<Column>(at.columns)[r];
        column.scale = largest * (1.0f / kLargest);
        column.sum = sum;
      }
    }
  }

  TQ_DEVICE void LoadColumns(int first_row, WarpState<kDim, kSets>& state) const {
#pragma unroll
    for (int n = 0; n < kSets; ++n) {
      // B operand: column g of a set is byte g % 2 of row g / 2.
      const std::byte* bytes = memory + at.bytes +
                               ((first_row + 4 * n + (g >> 1)) * 2 + (g & 1)) * kDim +
                               t * (kDim / 4);
#pragma unroll
      for (int c = 0; c < kDim / 16; ++c) {
        state.q[n][c] = *reinterpret_cast<const uint32_t*>(bytes + 4 * c);
      }
      const Column& column = Shared<Column>(at.columns)[first_row + 4 * n + t];
      state.q_scale[n] = column.scale;
      state.q_sum[n] = column.sum;
      state.position[n] = column.position;
    }
  }

  TQ_DEVICE std::byte* RingOf(int w) const { return memory + at.ring + w * 2 * p.stage_bytes; }
  TQ_DEVICE std::byte* StageOf(int stage) const { return RingOf(warp) + stage * p.stage_bytes; }

  // Both addresses are the lane's. The second form is for lengths known only when running.
  template <int kBytes>
  TQ_DEVICE static void CopyByWarp(std::byte* to, const std::byte* from,
                                   std::integral_constant<int, kBytes>, int lane) {
    constexpr int kWhole = kBytes / 512 * 512;
#pragma unroll
    for (int i = 0; i < kWhole; i += 512) CopyAsync(to + i, from + i);
    if (lane * 16 < kBytes - kWhole) CopyAsync(to + kWhole, from + kWhole);
  }
  TQ_DEVICE static void CopyByWarp(std::byte* to, const std::byte* from, int bytes, int lane) {
#pragma unroll 4
    for (int i = 0; i < bytes - lane * 16; i += 512) CopyAsync(to + i, from + i);
  }

  // Where a warp is in its run of units: the unit whose bytes it will ask for next.
  struct Cursor {
    const uint32_t* open_ids;  // of the slot
    const uint32_t* sealed_ids;
    const std::byte* open;  // of this layer, head and lane in page 0
    const std::byte* sealed;
    int next;  // number of the unit
    int end;
    Unit unit;
    uint32_t id;  // of its page
  };
  TQ_DEVICE const std::byte* HeadOf(const PageForm& form, int head) const {
    return p.arena + form.layer_offset + static_cast<uint64_t>(head) * form.head_bytes + lane * 16;
  }
  TQ_DEVICE void FindPage(const Segment& s, Cursor& cursor) const {
    cursor.unit = s.work.units.At(cursor.next, p.open.step_log, p.sealed.step_log);
    cursor.id = (cursor.unit.sealed ? cursor.sealed_ids : cursor.open_ids)[cursor.unit.page];
  }
  TQ_DEVICE Cursor StartRun(const Segment& s, const Crew& crew) const {
    // The first phases take one unit more if they do not divide evenly.
    const int phase = Phase() - crew.first_phase;
    const auto each = static_cast<int>(p.by[crew.phases].Divide(static_cast<uint32_t>(s.units())));
    const int more = s.units() - each * crew.phases;
    const int64_t row = static_cast<int64_t>(s.work.slot) * p.tables.page_stride;
    Cursor cursor = {};
    cursor.open_ids = p.tables.open_pages + row;
    cursor.sealed_ids = p.tables.sealed_pages + row;
    cursor.next = s.begin + phase * each + (phase < more ? phase : more);
    cursor.end = cursor.next + each + (phase < more ? 1 : 0);
    if (cursor.next < cursor.end) FindPage(s, cursor);
    cursor.open = HeadOf(p.open, s.head);
    cursor.sealed = HeadOf(p.sealed, s.head);
    return cursor;
  }

  // Asks for the cursor's unit, if there is one, and moves on; the unit. Stage: the step's tiles as
  // they lie in the page (a step of part of a page's tiles is contiguous), then the reference
  // vector if the page is new or `reference`.
  TQ_DEVICE Unit LoadNext(const Segment& s, int stage_number, bool reference,
                          Cursor& cursor) const {
    const Unit asked = cursor.unit;
    std::byte* stage = StageOf(stage_number);
    if (cursor.next < cursor.end) {
      Unit& unit = cursor.unit;
      const std::byte* page = (unit.sealed ? cursor.sealed : cursor.open) +
                              static_cast<uint64_t>(cursor.id) * kPageIdUnit;
      std::byte* to = stage + lane * 16;
      if (reference || unit.token == 0) {
        CopyByWarp(to + p.stage_bytes - kDim * 2, page, std::integral_constant<int, kDim * 2>(),
                   lane);
      }
      Pair::template WithStepBytes<kDim>(p, unit.sealed, [&](const auto bytes, const auto tile) {
        const int in_page = unit.token / Tile<kDim>::kTokens * tile;
        CopyByWarp(to, page + kTilesOffset<kDim> + in_page, bytes, lane);
      });
      if (++cursor.next < cursor.end) {
        unit.token += kPageTokens >> (unit.sealed ? p.sealed.step_log : p.open.step_log);
        if (unit.token == kPageTokens) FindPage(s, cursor);
      }
    }
    CopyCommit();
    return asked;
  }

  // Query rows times the reference vector: what a page adds to its scores.
  TQ_DEVICE void AddReference(const std::byte* stage, int first_row,
                              WarpState<kDim, kSets>& state) const {
    // Lane (g, t) takes dims [g D/8, (g + 1) D/8) of row t.
    constexpr int kPart = kDim / 8;
    const std::byte* r = stage + p.stage_bytes - kDim * 2 + g * kPart * 2;
    float sum[kSets] = {}, odd[kSets] = {};
#pragma unroll
    for (int d = 0; d < kPart; d += 2) {
      const uint32_t pair = *reinterpret_cast<const uint32_t*>(r + d * 2);
      const float r0 = HalfLow(pair), r1 = HalfHigh(pair);
#pragma unroll
      for (int n = 0; n < kSets; ++n) {
        const float2 x =
            *reinterpret_cast<const float2*>(Row(first_row + 4 * n + t) + g * kPart + d);
        sum[n] = FusedMulAdd(x.x, r0, sum[n]);
        odd[n] = FusedMulAdd(x.y, r1, odd[n]);
      }
    }
#pragma unroll
    for (int n = 0; n < kSets; ++n) {
      sum[n] += odd[n];
      sum[n] += ShuffleXor(sum[n], 4);
      sum[n] += ShuffleXor(sum[n], 8);
      sum[n] += ShuffleXor(sum[n], 16);
      state.reference[n] = FastDivide(sum[n], state.q_scale[n]);
    }
  }

  // `unit` and `next`, the first two of a run, are on their way; `cursor` stands behind them.
  TQ_DEVICE void Attend(const Segment& s, int units, Unit unit, Unit next, Cursor cursor,
                        int first_row, WarpState<kDim, kSets>& state) const {
    bool new_page = true;
    for (int i = 0; i < units; ++i) {
      CopyWait<1>();
      SyncWarp();
      if (i == 0) Stamp(p, 6);
      const std::byte* stage = StageOf(i & 1);
      if (new_page) AddReference(stage, first_row, state);
      const StepMask mask = {p.visibility, s.queries, unit};
      Pair::template Step<kDim, kSets>(p, unit.sealed, stage, Shared<uint32_t>(at.levels), lane,
                                       mask, state);
      SyncWarp();
      unit = next;
      new_page = unit.token == 0;
      next = LoadNext(s, i & 1, false, cursor);
    }
    CopyWait<0>();
  }

  // A warp's state as a part: outputs in its own ring.
  TQ_DEVICE void LeaveWarpPart(const WarpState<kDim, kSets>& state) const {
    float* outputs = reinterpret_cast<float*>(RingOf(warp));  // [kColumns][kRow]
#pragma unroll
    for (int n = 0; n < kSets; ++n) {
      float l = state.l[n];
      l += ShuffleXor(l, 4);
      l += ShuffleXor(l, 8);
      l += ShuffleXor(l, 16);
      if (lane < 4) {
        Shared<float2>(at.states)[warp * kColumns + 4 * n + t] = {state.m[n], l};
      }
      float* row = outputs + (4 * n + t) * kRow + g;
#pragma unroll
      for (int i = 0; i < kDim / 8; ++i) row[8 * i] = state.o[n][i];
    }
  }
  // Parts of the crew's warps that have a column.
  struct WarpParts {
    const DecodeBlock& block;
    const Crew& crew;
    TQ_DEVICE int Warp(int part, int column) const {
      return crew.first_warp + column / kColumns + part * block.p.column_groups;
    }
    TQ_DEVICE float2 State(int part, int column) const {
      return block.Shared<float2>(
          block.at.states)[Warp(part, column) * kColumns + column % kColumns];
    }
    TQ_DEVICE float4 Output(int part, int column, int quad) const {
      const auto* outputs = reinterpret_cast<const float*>(block.RingOf(Warp(part, column)));
      return *reinterpret_cast<const float4*>(outputs + column % kColumns * kRow + quad * 4);
    }
  };

  TQ_DEVICE float* Partial(int block, bool begins_head) const {
    return p.partials +
           (static_cast<int64_t>(2 * block + (begins_head ? 1 : 0)) * (kDim + 2) << p.columns_log);
  }
  // Parts of consecutive blocks; the first one begins the head.
  struct BlockParts {
    const DecodeBlock& block;
    int first;
    TQ_DEVICE const float* Of(int part) const { return block.Partial(first + part, part == 0); }
    TQ_DEVICE float2 State(int part, int column) const {
      return LoadL2(reinterpret_cast<const float2*>(Of(part) + block.columns * kDim) + column);
    }
    TQ_DEVICE float4 Output(int part, int column, int quad) const {
      return LoadL2(reinterpret_cast<const float4*>(Of(part)) + column * kQuads + quad);
    }
  };

  // Leaves this block's part of a KV head. True if it was the last one to come.
  TQ_DEVICE bool LeaveBlockPart(const Segment& s, const Crew& crew) const {
    float* partial = Partial(BlockId(), s.begin == 0);
    const int thread = ThreadId() - 32 * crew.first_warp;
    for (int i = thread; i < columns * kQuads; i += 32 * crew.warps) {
      const int column = i / kQuads, quad = i % kQuads;
      const PartialSum sum = MergeParts(WarpParts{*this, crew}, 0, 1, crew.phases, column, quad);
      reinterpret_cast<float4*>(partial)[i] = sum.o;
      if (quad == 0) {
        reinterpret_cast<float2*>(partial + columns * kDim)[column] = {sum.m, sum.l};
      }
    }
    Sync(crew);
    Stamp(p, 9);
    int* flag = Shared<int>(at.flags) + crew.index;
    if (thread == 0) {
      uint32_t* counter = p.counters + (s.work.slot * p.kv_heads + s.head) * p.items + s.item;
      const auto units = static_cast<uint32_t>(s.units());
      const bool last = AddInOrder(counter, units) + units == static_cast<uint32_t>(s.size());
      if (last) *counter = 0;  // for the next launch
      *flag = last ? 1 : 0;
    }
    Sync(crew);
    return *flag != 0;
  }

  // Parts of a crew's teams, where the parts of its warps were.
  struct TeamParts {
    const DecodeBlock& block;
    const Crew& crew;
    TQ_DEVICE float2* StateAt(int part, int column) const {
      return block.Shared<float2>(block.at.states) + crew.first_warp * kColumns +
             (part << block.p.columns_log) + column;
    }
    TQ_DEVICE float4* OutputAt(int part, int column, int quad) const {
      auto* outputs = reinterpret_cast<float*>(block.RingOf(crew.first_warp));
      const int row = (part << block.p.columns_log) + column;
      return reinterpret_cast<float4*>(outputs + row * kRow) + quad;
    }
    TQ_DEVICE float2 State(int part, int column) const { return *StateAt(part, column); }
    TQ_DEVICE float4 Output(int part, int column, int quad) const {
      return *OutputAt(part, column, quad);
    }
  };
  // Teams of the crew's threads, one thread per four outputs.
  TQ_DEVICE int Teams(const Crew& crew) const {
    const int teams = (32 * crew.warps >> p.columns_log) / kQuads;
    return teams > 1 ? teams : 1;
  }
  // Each team merges every teams-th part of the blocks [first, last] and leaves that.
  TQ_DEVICE void LeaveTeamParts(const Crew& crew, int first, int last) const {
    const int teams = Teams(crew), step = 32 * crew.warps;
    const TeamParts to = {*this, crew};
    for (int i = ThreadId() - 32 * crew.first_warp; i < (teams << p.columns_log) * kQuads;
         i += step) {
      const int row = i / kQuads, quad = i % kQuads;
      const int column = row & (columns - 1), team = row >> p.columns_log;
      const PartialSum sum =
          MergeParts(BlockParts{*this, first}, team, teams, last - first + 1, column, quad);
      if (quad == 0) *to.StateAt(team, column) = {sum.m, sum.l};
      *to.OutputAt(team, column, quad) = sum.o;
    }
  }
  // Rows to the model: parts merged, divided by l, rotated back.
  template <class Parts>
  TQ_DEVICE void Finish(const Segment& s, const Crew& crew, const Parts& parts, int count) const {
    for (int c = warp - crew.first_warp; c < columns; c += crew.warps) {
      if (Shared<Column>(at.columns)[crew.first_row + c].position < 0) continue;
      float* row = Row(crew.first_row + c);
      for (int quad = lane; quad < kQuads; quad += 32) {
        const PartialSum sum = MergeParts(parts, 0, 1, count, c, quad);
        float4 out = {};
        AddScaled(sum.l > 0 ? FastDivide(1.0f, sum.l) : 0.0f, sum.o, out);
        *reinterpret_cast<float4*>(row + quad * 4) = out;
      }
      SyncWarp();
      if (p.rotate_out) RotateRow<kDim>(p.out_rotation, row, lane);
      const QueryPlace place = PlaceOf(s, c);
      float* to = p.out + (s.work.first_row + place.token) * p.out_stride + place.head * kDim;
      for (int d = lane; d < kDim; d += 32) to[d] = row[d];
    }
  }

  // What a crew does with its warps' parts of a segment.
  TQ_DEVICE void MergeSegment(const Segment& s, const Crew& crew, const Share& share) const {
    Sync(crew);
    Stamp(p, 8);
    if (s.whole()) {
      Finish(s, crew, WarpParts{*this, crew}, crew.phases);
      return;
    }
    const bool last = LeaveBlockPart(s, crew);
    Stamp(p, 10);
    if (!last) return;
    LeaveTeamParts(crew, share.BlockOf(s.global),
                   share.BlockOf(s.global + static_cast<uint32_t>(s.size()) - 1));
    Sync(crew);
    Stamp(p, 11);
    Finish(s, crew, TeamParts{*this, crew}, Teams(crew));
    Stamp(p, 12);
  }

  TQ_DEVICE void Run() {
    StampsClear(p);
    StampTimer(p, 0);
    Stamp(p, 2);
    LetNextStart();
    TouchParameters();
    Share share(p, BlockId(), lane);
    Stamp(p, 3);
    while (!share.Done()) {
      Segment first = {}, second = {};
      int segments = 0;
      while (segments < p.crews && !share.Done()) {
        const Segment next = share.Next();
        if (next.units() <= 0) continue;
        first = second;
        second = next;
        ++segments;
      }
      if (segments == 0) break;
      Crew crew = MakeCrew(0, 0, p.phases);
      if (segments == 1) {
        first = second;
      } else {
        crew = SplitCrews(first, second);
      }
      const int rows = segments << p.columns_log;
      const Segment s = Select(crew.index == 0, first, second);
      Cursor cursor = StartRun(s, crew);
      const int units = cursor.end - cursor.next;
      // Tables and sealed pages are older than the kernel before this one; the rest is not.
      if (!cursor.unit.sealed) WaitForInputs();
      const Unit unit = LoadNext(s, 0, true, cursor);
      Stamp(p, 4);
      WaitForInputs();
      CopyQueries(first, second, rows);
      CopyCommit();
      const Unit next = LoadNext(s, 1, false, cursor);
      CopyLevels();
      CopyWait<1>();
      SyncWarp();
      PrepareQueries(rows);
      SyncThreads();
      Stamp(p, 5);
      WarpState<kDim, kSets> state;
      state.Clear();
      const int group = warp - Phase() * p.column_groups;
      const int first_row = crew.first_row + group * kColumns;
      LoadColumns(first_row, state);
      Attend(s, units, unit, next, cursor, first_row, state);
      Stamp(p, 7);
      LeaveWarpPart(state);
      MergeSegment(s, crew, share);
      SyncThreads();  // rows, states and rings are the next segment's
    }
    Stamp(p, 13);
    StampTimer(p, 1);
  }
};

template <int kDim, int kSets, class Pair>
TQ_KERNEL(MaxWarps(kDim, kSets) * 32, 1)
DecodeKernel(const TQ_GRID_CONSTANT DecodeParams p) {
  DecodeBlock<kDim, kSets, Pair>(p).Run();
}

}  // namespace tq::cuda
