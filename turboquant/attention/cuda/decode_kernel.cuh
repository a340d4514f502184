// SPDX-License-Identifier: Apache-2.0
// Decode attention, one kernel for everything: a fixed grid of blocks shares the list of all units
// (decode_units.h) of all slots and KV heads evenly and in order. A block's share of one KV head is
// a segment; its warps take consecutive runs of units, each through its own double buffer in shared
// memory. A segment that is not a whole KV head leaves a partial; the block that finishes the last
// one merges them (attention/online_softmax.h says how).
#pragma once

#include "turboquant/attention/cuda/decode_instances.h"
#include "turboquant/attention/cuda/decode_memory.h"
#include "turboquant/attention/cuda/decode_step.cuh"
#include "turboquant/codec/cuda/rotation.cuh"

namespace tq::cuda {

// A block's work on one KV head of one slot.
struct Segment {
  int slot;
  int head;
  int item;
  int begin;  // units [begin, end) of size
  int end;
  int size;
  uint32_t global;  // number of unit 0 in the list of all units
};

template <int kDim, int kSets, class Pair>
struct DecodeBlock {
  static constexpr int kColumns = kSets * 4;  // of a warp
  static constexpr int kRow = kDim + kRowPad;

  const DecodeParams& p;
  std::byte* memory;
  DecodeMemory at;
  int warp, lane, g, t, warps;
  int columns;  // of the block

  TQ_DEVICE explicit DecodeBlock(const DecodeParams& params) : p(params), memory(SharedMemory()) {
    warp = WarpId();
    lane = LaneId();
    g = lane >> 2;
    t = lane & 3;
    warps = Threads() >> 5;
    columns = p.column_groups * kColumns;
    at = MakeDecodeMemory(kDim, columns, kColumns, p.tables.slots, warps, p.stage_bytes);
  }

  template <typename T>
  TQ_DEVICE T* Shared(int offset) const {
    return reinterpret_cast<T*>(memory + offset);
  }
  TQ_DEVICE float* Row(int column) const { return Shared<float>(at.row) + column * kRow; }

  TQ_DEVICE const SlotQueries& SlotAt(int slot) const {
    return Shared<SlotQueries>(at.slots)[slot];
  }
  TQ_DEVICE static QueryRange QueriesOf(const SlotQueries& s) {
    return {s.first_position, s.first_position + s.tokens - 1, s.sealed_below};
  }
  TQ_DEVICE UnitList Units(const QueryRange& queries) const {
    return MakeUnitList(p.visibility, queries, p.open.step_log, p.sealed.step_log);
  }

#ifdef TQ_DECODE_STAMPS
  TQ_DEVICE static uint64_t GlobalTimer() {
    uint64_t t;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(t)::"memory");
    return t;
  }
  TQ_DEVICE static uint64_t Clock() {
    uint64_t t;
    asm volatile("mov.u64 %0, %clock64;" : "=l"(t)::"memory");
    return t;
  }
  TQ_DEVICE void StampTimer(int i) const {
    if (ThreadId() == 0 && p.stamps != nullptr) p.stamps[BlockId() * 16 + i] = GlobalTimer();
  }
  TQ_DEVICE void Stamp(int i) const {
    if (ThreadId() == 0 && p.stamps != nullptr) p.stamps[BlockId() * 16 + i] = Clock();
  }
  TQ_DEVICE void StampsClear() const {
    if (ThreadId() == 0 && p.stamps != nullptr) {
      for (int i = 0; i < 16; ++i) p.stamps[BlockId() * 16 + i] = 0;
    }
  }
#else
  TQ_DEVICE void StampTimer(int) const {}
  TQ_DEVICE void Stamp(int) const {}
  TQ_DEVICE void StampsClear() const {}
#endif

  // Parameters lie in constant memory, cold at first: every warp fetches a line of them, so that
  // nobody waits for one line after the other.
  TQ_DEVICE void TouchParameters() const {
    constexpr int kLine = 64 / 4;
    const int word = warp * kLine;
    if (word < static_cast<int>(sizeof(DecodeParams) / 4)) {
      Shared<uint32_t>(at.flags)[4 + warp] = reinterpret_cast<const uint32_t*>(&p)[word];
    }
  }

  // starts[s]: units before slot s; one KV head and item of a slot after the other.
  TQ_DEVICE void CountUnits() {
    uint32_t* starts = Shared<uint32_t>(at.starts);
    for (int i = ThreadId(); i < kLevelTableWords * 32; i += Threads()) {
      Shared<uint32_t>(at.levels)[i] = p.levels[i / 32];
    }
    TouchParameters();
    WaitForInputs();
    if (warp == 0) {
      uint32_t before = 0;
      for (int base = 0; base < p.tables.slots; base += 32) {
        const int slot = base + lane;
        uint32_t n = 0;
        if (slot < p.tables.slots) {
          const SlotQueries& read = Shared<SlotQueries>(at.slots)[slot] = {
              p.tables.first_positions[slot], p.tables.tokens[slot],
              p.tables.sealed_below == nullptr ? 0 : p.tables.sealed_below[slot],
              p.tables.first_rows[slot]};
          const QueryRange queries = QueriesOf(read);
          if (queries.last >= queries.first) {
            n = static_cast<uint32_t>(Units(queries).size() * p.kv_heads * p.items);
          }
        }
        uint32_t sum = n;
#pragma unroll
        for (int delta = 1; delta < 32; delta *= 2) {
          const uint32_t other = ShuffleUp(sum, delta);
          if (lane >= delta) sum += other;
        }
        if (slot < p.tables.slots) starts[slot] = before + sum - n;
        before += Shuffle(sum, 31);
      }
      if (lane == 0) starts[p.tables.slots] = before;
    }
    SyncThreads();
  }

  // The queries of a segment: rotated rows of floats, their 16-bit form, scale and sum.
  TQ_DEVICE void PrepareQueries(const Segment& s) {
    const SlotQueries slot = SlotAt(s.slot);
    for (int c = warp; c < columns; c += warps) {
      const int r = s.item * columns + c;
      const int token = r / p.group;
      const bool valid = token < slot.tokens;
      float* row = Row(c);
      const float* from = p.q + (slot.first_row + (valid ? token : 0)) * p.q_stride +
                          (s.head * p.group + r % p.group) * kDim;
      for (int d = lane; d < kDim; d += 32) row[d] = valid ? from[d] : 0.0f;
      SyncWarp();
      if (p.rotate_q) RotateRow<kDim>(p.q_rotation, row, lane);
      float largest = 0;
      for (int d = lane; d < kDim; d += 32) {
        const float x = row[d] * p.score_scale;
        row[d] = x;
        largest = Max(largest, Abs(x));
      }
#pragma unroll
      for (int mask = 16; mask > 0; mask /= 2) largest = Max(largest, ShuffleXor(largest, mask));
      constexpr float kLargest = 32600.0f;  // bytes of it and its products stay in range
      const float inverse = largest > 0 ? kLargest / largest : 0.0f;
      int8_t* low = Shared<int8_t>(at.bytes) + c * 2 * kDim;
      int32_t sum = 0;
      for (int d = lane; d < kDim; d += 32) {
        const int value = RoundToInt(row[d] * inverse);
        const int high = (value + 128) >> 8;
        low[d] = static_cast<int8_t>(value - high * 256);
        low[kDim + d] = static_cast<int8_t>(high);
        sum += value;
      }
#pragma unroll
      for (int mask = 16; mask > 0; mask /= 2) sum += ShuffleXor(sum, mask);
      if (lane == 0) {
        Shared<Column>(at.columns)[c] = {largest / kLargest, sum,
                                         valid ? slot.first_position + token : -1, 0, 0};
      }
    }
  }

  TQ_DEVICE void LoadColumns(int first_column, WarpState<kDim, kSets>& state) const {
#pragma unroll
    for (int n = 0; n < kSets; ++n) {
      // B operand: column g of a set is byte g % 2 of row g / 2.
      const std::byte* bytes = memory + at.bytes +
                               ((first_column + 4 * n + (g >> 1)) * 2 + (g & 1)) * kDim +
                               t * (kDim / 4);
#pragma unroll
      for (int c = 0; c < kDim / 16; ++c) {
        state.q[n][c] = *reinterpret_cast<const uint32_t*>(bytes + 4 * c);
      }
      const Column& column = Shared<Column>(at.columns)[first_column + 4 * n + t];
      state.q_scale[n] = column.scale;
      state.q_sum[n] = column.sum;
      state.position[n] = column.position;
    }
  }

  TQ_DEVICE const std::byte* HeadOf(const Unit& unit, uint32_t id, int head) const {
    const PageForm& form = unit.sealed ? p.sealed : p.open;
    return p.arena + id * kPageIdUnit + form.layer_offset +
           static_cast<uint64_t>(head) * form.head_bytes;
  }
  TQ_DEVICE uint32_t IdOf(const Segment& s, const Unit& unit) const {
    const uint32_t* ids = unit.sealed ? p.tables.sealed_pages : p.tables.open_pages;
    return ids[static_cast<int64_t>(s.slot) * p.tables.page_stride + unit.page];
  }

  // Stage: the step's tiles as they lie in the page, then the reference vector. A step of part of a
  // page's tiles is contiguous.
  TQ_DEVICE void LoadStage(std::byte* stage, const Unit& unit, uint32_t id, int head,
                           bool reference) const {
    const PageForm& form = unit.sealed ? p.sealed : p.open;
    const std::byte* page = HeadOf(unit, id, head);
    const int bytes = static_cast<int>(form.tile_bytes) *
                      (MakeTileLayout(kDim).tiles_per_page() >> form.step_log);
    const std::byte* tiles =
        page + form.tiles_offset + unit.token / MakeTileLayout(kDim).tokens * form.tile_bytes;
#pragma unroll 4
    for (int i = lane * 16; i < bytes; i += 512) CopyAsync(stage + i, tiles + i);
    if (reference) {
      std::byte* to = stage + p.stage_bytes - kDim * 2;
      for (int i = lane * 16; i < kDim * 2; i += 512) {
        CopyAsync(to + i, page + form.reference_offset + i);
      }
    }
  }

  // Query rows times the reference vector: what a page adds to its scores.
  TQ_DEVICE void AddReference(const std::byte* stage, int first_column,
                              WarpState<kDim, kSets>& state) const {
    // Lane (g, t) takes dims [g D/8, (g + 1) D/8) of row t.
    constexpr int kPart = kDim / 8;
    const std::byte* r = stage + p.stage_bytes - kDim * 2 + g * kPart * 2;
    float sum[kSets] = {};
#pragma unroll
    for (int d = 0; d < kPart; d += 2) {
      const uint32_t pair = *reinterpret_cast<const uint32_t*>(r + d * 2);
      const float r0 = HalfLow(pair), r1 = HalfHigh(pair);
#pragma unroll
      for (int n = 0; n < kSets; ++n) {
        const float2 x =
            *reinterpret_cast<const float2*>(Row(first_column + 4 * n + t) + g * kPart + d);
        sum[n] = FusedMulAdd(x.x, r0, FusedMulAdd(x.y, r1, sum[n]));
      }
    }
#pragma unroll
    for (int n = 0; n < kSets; ++n) {
      sum[n] += ShuffleXor(sum[n], 4);
      sum[n] += ShuffleXor(sum[n], 8);
      state.reference[n] = sum[n] + ShuffleXor(sum[n], 16);
    }
  }

  // A warp's run of units [begin, end) of a segment. The first step's bytes are on their way before
  // the queries are looked at.
  struct Run {
    int begin, end;
    Unit unit;  // the first one
    Unit next;  // the second one
    uint32_t next_id;
  };
  TQ_DEVICE std::byte* Ring() const { return memory + at.ring + warp * 2 * p.stage_bytes; }
  TQ_DEVICE Unit UnitAt(const UnitList& units, int u) const {
    return units.At(u, p.open.step_log, p.sealed.step_log);
  }

  TQ_DEVICE Run StartRun(const Segment& s, const UnitList& units, int begin, int end) const {
    Run run = {begin, end, {}, {}, 0};
    if (begin >= end) return run;
    run.unit = run.next = UnitAt(units, begin);
    const uint32_t id = IdOf(s, run.unit);
    if (begin + 1 < end) {
      run.next = UnitAt(units, begin + 1);
      run.next_id = IdOf(s, run.next);
    }
    LoadStage(Ring(), run.unit, id, s.head, true);
    CopyCommit();
    return run;
  }

  TQ_DEVICE void Attend(const Segment& s, const QueryRange& queries, const UnitList& units,
                        const Run& run, int first_column, WarpState<kDim, kSets>& state) const {
    std::byte* ring = Ring();
    Unit unit = run.unit;
    Unit next = run.next;
    uint32_t next_id = run.next_id;
    bool new_page = true;
    int stage = 0;
    for (int u = run.begin; u < run.end; ++u) {
      const bool next_is_new = next.page != unit.page || next.sealed != unit.sealed;
      const Unit loaded = next;
      if (u + 1 < run.end) {
        LoadStage(ring + (stage ^ 1) * p.stage_bytes, next, next_id, s.head, next_is_new);
        if (u + 2 < run.end) {
          next = UnitAt(units, u + 2);
          next_id = IdOf(s, next);
        }
      }
      CopyCommit();
      CopyWait<1>();
      SyncWarp();
      const std::byte* data = ring + stage * p.stage_bytes;
      if (u == run.begin) Stamp(6);
      if (new_page) AddReference(data, first_column, state);
      const StepMask mask = {p.visibility, queries, unit};
      Pair::template Step<kDim, kSets>(p, unit.sealed, data, Shared<uint32_t>(at.levels), lane,
                                       mask, state);
      SyncWarp();
      unit = loaded;
      new_page = next_is_new;
      stage ^= 1;
    }
    CopyWait<0>();
  }

  // The warps' states to one row of outputs per column, with its m and l.
  TQ_DEVICE void MergeWarps(WarpState<kDim, kSets>& state) {
    Stamp(7);
    SyncThreads();  // no warp reads its ring or the query rows any more
    Stamp(8);
    float2* parts = Shared<float2>(at.parts);
    float* outputs = Shared<float>(at.ring);  // [warps][kColumns][kRow]
#pragma unroll
    for (int n = 0; n < kSets; ++n) {
      float l = state.l[n];
      l += ShuffleXor(l, 4);
      l += ShuffleXor(l, 8);
      l += ShuffleXor(l, 16);
      if (lane < 4) parts[warp * kColumns + 4 * n + t] = {state.m[n], l};
      float* row = outputs + (warp * kColumns + 4 * n + t) * kRow + g;
#pragma unroll
      for (int i = 0; i < kDim / 8; ++i) row[8 * i] = state.o[n][i];
    }
    SyncThreads();
    // Column c of the block belongs to the warps w with w % column_groups = c / kColumns.
    float2* factors = parts + warps * kColumns;
    for (int i = ThreadId(); i < warps * kColumns; i += Threads()) {
      float m = kLeastScore;
#pragma unroll 4
      for (int w = i / kColumns % p.column_groups; w < warps; w += p.column_groups) {
        m = Max(m, parts[w * kColumns + i % kColumns].x);
      }
      const float factor = Exp2(parts[i].x - m);
      factors[i] = {factor, factor * parts[i].y};
      if (i / kColumns < p.column_groups) Shared<Column>(at.columns)[i].m = m;
    }
    SyncThreads();
    for (int c = ThreadId(); c < columns; c += Threads()) {
      float l = 0;
#pragma unroll 4
      for (int w = c / kColumns; w < warps; w += p.column_groups) {
        l += factors[w * kColumns + c % kColumns].y;
      }
      Shared<Column>(at.columns)[c].l = l;
    }
    for (int i = ThreadId(); i < columns * kQuads; i += Threads()) {
      const int c = i / kQuads, d = i % kQuads * 4;
      float4 sum = {};
#pragma unroll 4
      for (int w = c / kColumns; w < warps; w += p.column_groups) {
        const int part = w * kColumns + c % kColumns;
        AddScaled(factors[part].x, *reinterpret_cast<const float4*>(outputs + part * kRow + d),
                  sum);
      }
      *reinterpret_cast<float4*>(Row(c) + d) = sum;
    }
    SyncThreads();
  }
  static constexpr int kQuads = kDim / 4;
  TQ_DEVICE static void AddScaled(float factor, const float4& x, float4& sum) {
    sum.x = FusedMulAdd(factor, x.x, sum.x);
    sum.y = FusedMulAdd(factor, x.y, sum.y);
    sum.z = FusedMulAdd(factor, x.z, sum.z);
    sum.w = FusedMulAdd(factor, x.w, sum.w);
  }

  TQ_DEVICE float* Partial(int block, bool begins_head) const {
    return p.partials +
           static_cast<int64_t>(2 * block + (begins_head ? 1 : 0)) * columns * (kDim + 2);
  }

  // Leaves this block's part of a KV head. True if it was the last one to come.
  TQ_DEVICE bool LeavePartial(const Segment& s) {
    float* partial = Partial(BlockId(), s.begin == 0);
    for (int i = ThreadId(); i < columns * kQuads; i += Threads()) {
      reinterpret_cast<float4*>(partial)[i] =
          *reinterpret_cast<const float4*>(Row(i / kQuads) + i % kQuads * 4);
    }
    for (int c = ThreadId(); c < columns; c += Threads()) {
      const Column& column = Shared<Column>(at.columns)[c];
      reinterpret_cast<float2*>(partial + columns * kDim)[c] = {column.m, column.l};
    }
    Fence();
    SyncThreads();
    int* flag = Shared<int>(at.flags);
    if (ThreadId() == 0) {
      uint32_t* counter = p.counters + (s.slot * p.kv_heads + s.head) * p.items + s.item;
      const auto units = static_cast<uint32_t>(s.end - s.begin);
      const bool last = AtomicAdd(counter, units) + units == static_cast<uint32_t>(s.size);
      if (last) *counter = 0;  // for the next launch
      *flag = last ? 1 : 0;
    }
    SyncThreads();
    if (*flag != 0) Fence();
    return *flag != 0;
  }

  // Merges the partials of blocks [first, last]; the first one begins the head.
  TQ_DEVICE void MergePartials(int first, int last) {
    const int parts = last - first + 1;
    float* factors = Shared<float>(at.ring);  // [columns][parts]
    float4* sums = Shared<float4>(at.ring) + (columns * parts + 3) / 4;
    for (int c = warp; c < columns; c += warps) {
      float m = kLeastScore, l = 0;
      for (int i = lane; i < parts; i += 32) {
        const float2 part = LoadL2(StateOf(first + i, i == 0) + c);
        const float m_new = Max(m, part.x);
        l = l * Exp2(m - m_new) + part.y * Exp2(part.x - m_new);
        m = m_new;
        factors[c * parts + i] = part.x;
      }
      float m_all = m;
#pragma unroll
      for (int mask = 16; mask > 0; mask /= 2) m_all = Max(m_all, ShuffleXor(m_all, mask));
      l *= Exp2(m - m_all);
#pragma unroll
      for (int mask = 16; mask > 0; mask /= 2) l += ShuffleXor(l, mask);
      for (int i = lane; i < parts; i += 32) {
        factors[c * parts + i] = Exp2(factors[c * parts + i] - m_all);
      }
      if (lane == 0) Shared<Column>(at.columns)[c].l = l;
    }
    SyncThreads();
    // Threads stand in teams, each of which adds every teams-th part.
    const int quads = columns * kQuads;
    const int teams = Threads() >= 2 * quads ? Threads() / quads : 1;
    const int team = ThreadId() / quads;
    for (int i = ThreadId() - (teams > 1 ? team * quads : 0);
         i < quads && team<teams; i += teams> 1 ? quads : Threads()) {
      const float* factor = factors + i / kQuads * parts;
      float4 sum = {};
#pragma unroll 8
      for (int j = teams > 1 ? team : 0; j < parts; j += teams) {
        AddScaled(factor[j], LoadL2(OutputOf(first + j, j == 0) + i), sum);
      }
      sums[(teams > 1 ? team * quads : 0) + i] = sum;
    }
    SyncThreads();
    for (int i = ThreadId(); i < quads; i += Threads()) {
      float4 sum = sums[i];
      for (int j = 1; j < teams; ++j) AddScaled(1.0f, sums[j * quads + i], sum);
      *reinterpret_cast<float4*>(Row(i / kQuads) + i % kQuads * 4) = sum;
    }
    SyncThreads();
  }
  TQ_DEVICE const float4* OutputOf(int block, bool begins_head) const {
    return reinterpret_cast<const float4*>(Partial(block, begins_head));
  }
  TQ_DEVICE const float2* StateOf(int block, bool begins_head) const {
    return reinterpret_cast<const float2*>(Partial(block, begins_head) + columns * kDim);
  }

  // Rows to the model: divided by l, rotated back.
  TQ_DEVICE void Finish(const Segment& s) {
    for (int c = warp; c < columns; c += warps) {
      const Column& column = Shared<Column>(at.columns)[c];
      if (column.position < 0) continue;
      const float inverse = column.l > 0 ? 1.0f / column.l : 0.0f;
      float* row = Row(c);
      for (int d = lane; d < kDim; d += 32) row[d] *= inverse;
      SyncWarp();
      if (p.rotate_out) RotateRow<kDim>(p.out_rotation, row, lane);
      const int r = s.item * columns + c;
      float* to = p.out + (SlotAt(s.slot).first_row + r / p.group) * p.out_stride +
                  (s.head * p.group + r % p.group) * kDim;
      for (int d = lane; d < kDim; d += 32) to[d] = row[d];
    }
  }

  // ceil(total * block / blocks) and floor(unit * blocks / total), in 32 bits where they suffice.
  TQ_DEVICE static uint32_t DivideUp(uint32_t total, uint32_t block, uint32_t blocks) {
    const uint64_t n = static_cast<uint64_t>(total) * block + blocks - 1;
    return n >> 32 == 0 ? static_cast<uint32_t>(n) / blocks : static_cast<uint32_t>(n / blocks);
  }
  TQ_DEVICE static int BlockOf(uint32_t unit, uint32_t blocks, uint32_t total) {
    const uint64_t n = static_cast<uint64_t>(unit) * blocks;
    return static_cast<int>(n >> 32 == 0 ? static_cast<uint32_t>(n) / total : n / total);
  }

  TQ_DEVICE void Attend() {
    StampsClear();
    StampTimer(0);
    Stamp(2);
    LetNextStart();
    CountUnits();
    Stamp(3);
    const uint32_t* starts = Shared<uint32_t>(at.starts);
    const uint32_t total = starts[p.tables.slots];
    if (total == 0) return;
    uint32_t blocks = total / static_cast<uint32_t>(p.min_units);
    if (blocks < 1) blocks = 1;
    if (blocks > static_cast<uint32_t>(Blocks())) blocks = static_cast<uint32_t>(Blocks());
    // Unit u belongs to block floor(u * blocks / total).
    const auto block = static_cast<uint32_t>(BlockId());
    if (block >= blocks) return;
    uint32_t unit = DivideUp(total, block, blocks);
    const uint32_t end = DivideUp(total, block + 1, blocks);
    int slot = 0;
    while (unit < end) {
      while (starts[slot + 1] <= unit) ++slot;
      const QueryRange queries = QueriesOf(SlotAt(slot));
      const UnitList units = Units(queries);
      Segment s;
      s.slot = slot;
      s.size = units.size();
      const int number = static_cast<int>(unit - starts[slot]) / s.size;
      s.head = number / p.items;
      s.item = number % p.items;
      s.global = starts[slot] + static_cast<uint32_t>(number * s.size);
      s.begin = static_cast<int>(unit - s.global);
      s.end = static_cast<int>(end - s.global) < s.size ? static_cast<int>(end - s.global) : s.size;

      const int phase = warp / p.column_groups, phases = warps / p.column_groups;
      const int n = s.end - s.begin;
      const Run run =
          StartRun(s, units, s.begin + n * phase / phases, s.begin + n * (phase + 1) / phases);
      Stamp(4);
      PrepareQueries(s);
      SyncThreads();
      Stamp(5);
      const int first_column = warp % p.column_groups * kColumns;
      WarpState<kDim, kSets> state;
      state.Clear();
      LoadColumns(first_column, state);
      Attend(s, queries, units, run, first_column, state);
      MergeWarps(state);
      Stamp(9);
      bool done = n == s.size;
      const bool last = !done && LeavePartial(s);
      Stamp(10);
      if (last) {
        MergePartials(BlockOf(s.global, blocks, total),
                      BlockOf(s.global + static_cast<uint32_t>(s.size) - 1, blocks, total));
        done = true;
        Stamp(11);
      }
      if (done) Finish(s);
      SyncThreads();
      if (done) Stamp(12);
      unit += static_cast<uint32_t>(n);
    }
    Stamp(13);
    StampTimer(1);
  }
};

template <int kDim, int kSets, class Pair>
TQ_KERNEL(MaxWarps(kDim, kSets) * 32, 1)
DecodeKernel(const TQ_GRID_CONSTANT DecodeParams p) {
  DecodeBlock<kDim, kSets, Pair>(p).Attend();
}

}  // namespace tq::cuda
