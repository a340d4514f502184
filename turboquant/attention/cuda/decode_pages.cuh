// SPDX-License-Identifier: Apache-2.0
// A warp's run of units: where they lie and how they come into its ring.
#pragma once

#include <type_traits>

#include "turboquant/attention/cuda/decode_block.cuh"
#include "turboquant/attention/cuda/decode_step.cuh"

namespace tq::cuda {

// The unit whose bytes a warp will ask for next.
struct Cursor {
  const uint32_t* open_ids;  // of the slot
  const uint32_t* sealed_ids;
  const std::byte* open;  // of this layer and head in page 0
  const std::byte* sealed;
  int next;  // number of the unit
  int end;   // of the run
  Unit unit;
  uint32_t id;  // of its page
};

// Moves on to the first unit of the next page, whose id is to be found at the result.
template <class Pair>
TQ_DEVICE const uint32_t* NextPage(const DecodeParams& p, const Segment& s, Cursor& cursor) {
  if constexpr (Pair::kAges) {
    if (p.ages.count > 0) {
      cursor.unit = s.work.units.At(cursor.next, p.open.step_log, p.sealed.step_log,
                                    p.EndsOfSlot(s.work.slot), s.queries);
      return p.tables.PagesOf(cursor.unit.form, s.work.slot) + cursor.unit.page;
    }
  }
  cursor.unit = s.work.units.At(cursor.next, p.open.step_log, p.sealed.step_log);
  return (cursor.unit.form != kOpenForm ? cursor.sealed_ids : cursor.open_ids) + cursor.unit.page;
}

// Of this layer and head in page 0 of a form.
template <class Block>
TQ_DEVICE const std::byte* HeadOf(const Block& block, const Segment& s, const PageForm& form) {
  return block.p.arena + form.layer_offset + static_cast<uint64_t>(s.head) * form.head_bytes;
}

// Units of a segment that one of `phases` phases works on, from the first one's number on.
struct UnitRange {
  int begin;
  int end;
};
TQ_DEVICE UnitRange UnitsOf(const DecodeParams& p, const Segment& s, int phase, int phases) {
  // The first phases take one unit more if they do not divide evenly.
  const auto each = static_cast<int>(p.by[phases].Divide(static_cast<uint32_t>(s.units())));
  const int more = s.units() - each * phases;
  const int begin = s.begin + phase * each + (phase < more ? phase : more);
  return {begin, begin + each + (phase < more ? 1 : 0)};
}

template <class Pair, class Block>
TQ_DEVICE Cursor StartRun(const Block& block, const Segment& s, const Crew& crew) {
  const DecodeParams& p = block.p;
  const UnitRange units = UnitsOf(p, s, block.phase - crew.first_phase, crew.phases);
  const int64_t row = static_cast<int64_t>(s.work.slot) * p.tables.page_stride;
  Cursor cursor = {};
  cursor.open_ids = p.tables.open_pages + row;
  cursor.sealed_ids = p.tables.sealed_pages + row;
  cursor.next = units.begin;
  cursor.end = units.end;
  if (cursor.next < cursor.end) cursor.id = *NextPage<Pair>(p, s, cursor);
  cursor.open = HeadOf(block, s, p.open);
  cursor.sealed = HeadOf(block, s, p.sealed);
  return cursor;
}

// Both addresses are the lane's. The second form is for lengths known only when running.
template <int kBytes>
TQ_DEVICE void CopyByWarp(std::byte* to, const std::byte* from, std::integral_constant<int, kBytes>,
                          int lane) {
  constexpr int kWhole = kBytes / 512 * 512;
#pragma unroll
  for (int i = 0; i < kWhole; i += 512) CopyAsync(to + i, from + i);
  if (lane * 16 < kBytes - kWhole) CopyAsync(to + kWhole, from + kWhole);
}
TQ_DEVICE void CopyByWarp(std::byte* to, const std::byte* from, int bytes, int lane) {
#pragma unroll 4
  for (int i = 0; i < bytes - lane * 16; i += 512) CopyAsync(to + i, from + i);
}

// Asks for the cursor's unit, if there is one, and moves on; in a wide kernel one warp does for
// all. Stage: the step's tiles as they lie in the page (a step of part of a page's tiles is
// contiguous), then the reference vector if the page is new or `reference`.
template <class Pair, class Block>
TQ_DEVICE void LoadNext(const Block& block, const Segment& s, int stage, bool reference,
                        Cursor& cursor) {
  constexpr int kDim = Block::kDim;
  const DecodeParams& p = block.p;
  if (cursor.next < cursor.end) {
    Unit& unit = cursor.unit;
    const std::byte* first = unit.form != kOpenForm ? cursor.sealed : cursor.open;
    if constexpr (Pair::kAges) {
      if (unit.form > kSealedForm) first = HeadOf(block, s, p.Form(unit.form));
    }
    const std::byte* page =
        first + static_cast<uint64_t>(cursor.id) * kPageIdUnit + block.lane * 16;
    std::byte* to = block.StageOf(stage) + block.lane * 16;
    if (reference || unit.token == 0) {
      CopyByWarp(to + p.stage_bytes - kDim * 2, page, std::integral_constant<int, kDim * 2>(),
                 block.lane);
    }
    const auto copy = [&](const auto bytes, const auto tile) {
      const int in_page = unit.token / Tile<kDim>::kTokens * tile;
      CopyByWarp(to, page + kTilesOffset<kDim> + in_page, bytes, block.lane);
    };
    Pair::template WithStepBytes<kDim, Block::kSets>(p, unit.form, copy);
    if (++cursor.next < cursor.end) {
      unit.token += kPageTokens >> (unit.form != kOpenForm ? p.sealed.step_log : p.open.step_log);
      if (unit.token == kPageTokens) cursor.id = *NextPage<Pair>(p, s, cursor);
    }
  }
  CopyCommit();
}

}  // namespace tq::cuda
