// SPDX-License-Identifier: Apache-2.0
// Who does what: the list of all units of all slots, cut into equal shares of consecutive units,
// one per block. Every warp finds out by itself, from registers: no barrier, few dependent loads.
#pragma once

#include <bit>
#include <cstdint>

#include "turboquant/attention/cuda/decode_params.h"
#include "turboquant/codec/cuda/lane_ops.cuh"

namespace tq::cuda {

// A head costs a block more than its units: the list has that many empty ones behind each head's.
inline constexpr int kHeadCost = 8;

// What StepTables says of a slot, and what follows from it.
struct SlotWork {
  int slot;
  int first_position;
  int tokens;
  int sealed_below;
  int first_row;
  uint32_t start;   // units of all slots before this one, empty ones included
  uint32_t stride;  // units of one KV head, empty ones included
  UnitList units;   // of one KV head

  TQ_DEVICE QueryRange Queries() const {
    return {first_position, first_position + tokens - 1, sealed_below};
  }
};

// 32 slots, one per lane.
struct SlotChunk {
  SlotWork work;
  uint32_t end;  // units of all slots up to the last of the chunk
};

// may_age: false spares the kernels whose pages cannot a look at what is cold.
TQ_DEVICE SlotChunk ReadSlots(const DecodeParams& p, bool may_age, int first, uint32_t before,
                              int lane) {
  SlotWork work = {};
  work.slot = first + lane;
  uint32_t n = 0;
  if (work.slot < p.tables.slots) {
    work.first_position = p.tables.first_positions[work.slot];
    work.tokens = p.tables.tokens[work.slot];
    work.first_row = p.tables.first_rows[work.slot];
    work.sealed_below = p.tables.sealed_below == nullptr ? 0 : p.tables.sealed_below[work.slot];
    if (work.tokens > 0) {
      work.units = MakeUnitList(p.visibility, work.Queries(), p.open.step_log, p.sealed.step_log);
      if (may_age && p.ages.count > 0) {
        work.units.sealed_units += work.units.PagesTwice(p.EndsOfSlot(work.slot), work.Queries())
                                   << p.sealed.step_log;
      }
      work.stride = static_cast<uint32_t>(work.units.size() + kHeadCost);
      n = work.stride * static_cast<uint32_t>(p.kv_heads * p.items);
    }
  }
  uint32_t sum = n;  // of the lanes up to this one
  if (p.tables.slots == 1) {
    sum = Shuffle(n, 0);
  } else {
#pragma unroll
    for (int delta = 1; delta < 32; delta *= 2) {
      const uint32_t other = ShuffleUp(sum, delta);
      if (lane >= delta) sum += other;
    }
  }
  work.start = before + sum - n;
  return {work, before + Shuffle(sum, 31)};
}

template <class T>
struct Words {
  uint32_t of[sizeof(T) / 4];
};
// A lane's value for the whole warp.
template <class T>
TQ_DEVICE T Broadcast(const T& x, int lane) {
  auto words = std::bit_cast<Words<T>>(x);
#pragma unroll
  for (uint32_t& word : words.of) word = Shuffle(word, lane);
  return std::bit_cast<T>(words);
}
// yes ? a : b in registers; the operator would choose between addresses.
template <class T>
TQ_DEVICE T Select(bool yes, const T& a, const T& b) {
  auto words = std::bit_cast<Words<T>>(a);
  const auto others = std::bit_cast<Words<T>>(b);
#pragma unroll
  for (size_t i = 0; i < sizeof(T) / 4; ++i) words.of[i] = yes ? words.of[i] : others.of[i];
  return std::bit_cast<T>(words);
}

// A block's work on one KV head and column item of one slot.
struct Segment {
  SlotWork work;
  QueryRange queries;
  int head;
  int item;
  int begin;  // units [begin, end) of the head's
  int end;
  uint32_t global;  // number of the head's unit 0 in the list of all units

  TQ_DEVICE int units() const { return end - begin; }
  TQ_DEVICE int size() const { return work.units.size(); }
  TQ_DEVICE bool whole() const { return begin == 0 && end == size(); }
};

// A block's share of the list, one segment after the other.
class Share {
 public:
  TQ_DEVICE Share(const DecodeParams& p, bool may_age, int block, int lane)
      : p_(p), may_age_(may_age), lane_(lane) {
    uint32_t total = 0;
    do {
      chunk_ = ReadSlots(p, may_age, next_slot_, total, lane);
      total = chunk_.end;
      next_slot_ += 32;
    } while (next_slot_ < p.tables.slots);
    if (p.tables.slots > 32) {
      chunk_.end = 0;
      next_slot_ = 0;
    }
    size_ = p.by_blocks.Divide(total + static_cast<uint32_t>(p.blocks) - 1);
    if (size_ < static_cast<uint32_t>(p.min_units)) size_ = static_cast<uint32_t>(p.min_units);
    if (p.parts > 0 && AlignHeads()) total = chunk_.end;
    unit_ = static_cast<uint32_t>(block) * size_;
    end_ = unit_ + size_ < total ? unit_ + size_ : total;
  }

  // To a unit that at() told.
  TQ_DEVICE void GoTo(uint32_t unit) { unit_ = unit; }
  TQ_DEVICE uint32_t at() const { return unit_; }
  TQ_DEVICE bool Done() const { return unit_ >= end_; }
  // Only if not done. No units if the share begins with empty ones.
  TQ_DEVICE Segment Next() {
    Segment s = HeadHere();
    s.begin = static_cast<int>(unit_ - s.global);
    if (static_cast<int>(end_ - s.global) < s.end) s.end = static_cast<int>(end_ - s.global);
    unit_ = s.end < s.size() ? end_ : s.global + s.work.stride;
    return s;
  }
  // All of the KV head and column item that comes next, whoever's share it is. Only if not done.
  TQ_DEVICE Segment HeadHere() {
    while (chunk_.end <= unit_) {
      chunk_ = ReadSlots(p_, may_age_, next_slot_, chunk_.end, lane_);
      next_slot_ += 32;
    }
    // The last slot that starts at or before the unit: idle slots start where the next one does.
    const SlotWork work = Broadcast(chunk_.work, LastLane(chunk_.work.start <= unit_));
    return AllOf(work, (unit_ - work.start) / work.stride);
  }
  // The same by number; slots in rising order.
  TQ_DEVICE Segment Head(int slot, int number) {
    while (next_slot_ <= slot) {
      chunk_ = ReadSlots(p_, may_age_, next_slot_, chunk_.end, lane_);
      next_slot_ += 32;
    }
    return AllOf(Broadcast(chunk_.work, slot & 31), static_cast<uint32_t>(number));
  }
  // The segment that came last will come again.
  TQ_DEVICE void PutBack(const Segment& s) { unit_ = s.global + static_cast<uint32_t>(s.begin); }
  // The blocks whose shares hold units of a head.
  TQ_DEVICE int FirstBlockOf(const Segment& s) const { return static_cast<int>(s.global / size_); }
  TQ_DEVICE int BlocksOf(const Segment& s) const {
    const uint32_t last = s.global + static_cast<uint32_t>(s.size()) - 1;
    return static_cast<int>(last / size_) - FirstBlockOf(s) + 1;
  }

 private:
  // number: of the head and item in the slot.
  TQ_DEVICE Segment AllOf(const SlotWork& work, uint32_t number) const {
    Segment s;
    s.work = work;
    s.queries = work.Queries();
    s.head = static_cast<int>(number);
    s.item = 0;
    if (p_.items > 1) {
      s.head = static_cast<int>(number) / p_.items;
      s.item = static_cast<int>(number) % p_.items;
    }
    s.global = work.start + number * work.stride;
    s.begin = 0;
    s.end = s.size();
    return s;
  }

  // If all heads are about as long, each is given to the same number of blocks, none of which has
  // another: empty units behind each head's fill its last share.
  TQ_DEVICE bool AlignHeads() {
    const auto units = static_cast<uint32_t>(chunk_.work.units.size());
    const auto parts = static_cast<uint32_t>(p_.parts);
    const auto slots = static_cast<uint32_t>(p_.tables.slots);
    const uint32_t each = p_.by_parts.Divide(LargestOfLanes(units) + parts - 1);
    const uint32_t stride = each * parts;
    const auto all = static_cast<uint32_t>(SumOfLanes(static_cast<int>(units)));
    if (each < static_cast<uint32_t>(p_.min_units) || all < stride * slots / 16 * 15) return false;
    const uint32_t slot = stride * static_cast<uint32_t>(p_.kv_heads * p_.items);
    chunk_.work.stride = stride;
    chunk_.work.start = slot * static_cast<uint32_t>(chunk_.work.slot);
    chunk_.end = slot * slots;
    size_ = each;
    return true;
  }

  const DecodeParams& p_;
  bool may_age_;
  int lane_;
  SlotChunk chunk_;
  int next_slot_ = 0;  // behind the chunk
  uint32_t size_;
  uint32_t unit_;
  uint32_t end_;
};

}  // namespace tq::cuda
