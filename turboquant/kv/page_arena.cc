// SPDX-License-Identifier: Apache-2.0
#include "turboquant/kv/page_arena.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "turboquant/base/error.h"
#include "turboquant/base/mebibytes.h"
#include "turboquant/kv/kv_view.h"

namespace tq {
namespace {

constexpr uint64_t kSlab = PageArena::kSlabBytes;

uint64_t RoundBlock(uint64_t bytes) {
  return (bytes + kPageIdUnit - 1) / kPageIdUnit * kPageIdUnit;
}
uint64_t SlabsOver(uint64_t bytes) { return (bytes + kSlab - 1) / kSlab; }
// How many slabs a run for blocks of this size takes: the fewest that lose at most 1/16 at the end,
// else the best of 16.
uint64_t RunSlabs(uint64_t block) {
  const uint64_t least = SlabsOver(block);
  uint64_t best = least;
  double best_loss = 1;
  for (uint64_t slabs = least; slabs < least + 16; ++slabs) {
    const double loss =
        static_cast<double>(slabs * kSlab % block) / static_cast<double>(slabs * kSlab);
    if (loss <= 1.0 / 16) return slabs;
    if (loss < best_loss) best = slabs, best_loss = loss;
  }
  return best;
}

// A run of slabs cut into blocks of one size.
struct Run {
  uint64_t first_slab;
  uint64_t slabs;
  uint64_t capacity;  // blocks
  uint64_t live;
};

// All blocks of one size.
struct SizeClass {
  std::map<uint64_t, Run> runs;  // by first slab
  std::set<uint32_t> free;       // ids in existing runs, lowest first
};

// Ranges of offsets, those that follow each other in one.
struct Ranges {
  void Add(uint64_t begin, uint64_t end) {
    if (begin >= end) return;
    if (!ranges.empty() && ranges.back().second == begin) {
      ranges.back().second = end;
    } else {
      ranges.emplace_back(begin, end);
    }
  }
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
};

}  // namespace

struct PageArena::State {
  std::unique_ptr<ArenaMemory> memory;
  uint64_t budget = 0;
  uint64_t committed = 0;
  std::vector<uint32_t> users;  // [slabs] live blocks that touch it; committed while > 0
  std::vector<bool> taken;      // [slabs] belongs to a run
  std::map<uint64_t, SizeClass> classes;

  // Calls fn(slab) for each slab that the block touches.
  template <typename Fn>
  static void ForSlabs(uint64_t id, uint64_t block, Fn&& fn) {
    const uint64_t begin = id * kPageIdUnit, end = begin + block;
    for (uint64_t slab = begin / kSlab; slab * kSlab < end; ++slab) fn(slab);
  }

  uint64_t NewSlabs(uint64_t id, uint64_t block) const {
    uint64_t count = 0;
    ForSlabs(id, block, [&](uint64_t slab) { count += users[slab] == 0; });
    return count;
  }

  // First run of `slabs` consecutive free slabs, or users.size().
  uint64_t FindSlabs(uint64_t slabs) const {
    uint64_t length = 0;
    for (uint64_t slab = 0; slab < taken.size(); ++slab) {
      length = taken[slab] ? 0 : length + 1;
      if (length == slabs) return slab + 1 - slabs;
    }
    return taken.size();
  }

  // Takes addresses for a new run; shorter than wished if the reserved range is nearly full.
  bool AddRun(SizeClass& c, uint64_t block) {
    for (uint64_t slabs = RunSlabs(block); slabs >= SlabsOver(block); --slabs) {
      const uint64_t first = FindSlabs(slabs);
      if (first == taken.size()) continue;
      const Run run{first, slabs, slabs * kSlab / block, 0};
      for (uint64_t i = 0; i < run.capacity; ++i) {
        c.free.insert(static_cast<uint32_t>((first * kSlab + i * block) / kPageIdUnit));
      }
      c.runs.emplace(first, run);
      std::fill_n(taken.begin() + static_cast<int64_t>(first), slabs, true);
      return true;
    }
    return false;
  }

  void DropRun(SizeClass& c, const Run& run, uint64_t block) {
    for (uint64_t i = 0; i < run.capacity; ++i) {
      c.free.erase(static_cast<uint32_t>((run.first_slab * kSlab + i * block) / kPageIdUnit));
    }
    std::fill_n(taken.begin() + static_cast<int64_t>(run.first_slab), run.slabs, false);
    c.runs.erase(run.first_slab);
  }

  Run& RunOf(SizeClass& c, uint32_t id) {
    auto it = c.runs.upper_bound(id * kPageIdUnit / kSlab);
    TQ_CHECK(it != c.runs.begin());
    Run& run = std::prev(it)->second;
    TQ_CHECK(id * kPageIdUnit / kSlab < run.first_slab + run.slabs);
    return run;
  }

  // Drops the block's hold on its slabs; those that nobody touches any more go back.
  void ReleaseSlabs(uint32_t id, uint64_t block) {
    ForSlabs(id, block, [&](uint64_t slab) {
      if (--users[slab] > 0) return;
      memory->Decommit(slab * kSlab, kSlab);
      committed -= kSlab;
    });
  }

  // Commits, and adds what does not read as zero to `dirty`; leaves everything as it was if the
  // system refuses.
  void HoldSlabs(uint32_t id, uint64_t block, Ranges& dirty) {
    const uint64_t begin = id * kPageIdUnit, end = begin + block;
    // Other blocks touch the first and the last slab only, so the new ones lie side by side.
    uint64_t first = begin / kSlab, last = SlabsOver(end);
    if (users[first] > 0) ++first;
    if (last > first && users[last - 1] > 0) --last;
    const uint64_t new_begin = first * kSlab, new_end = last * kSlab;
    const bool zero = last > first && memory->Commit(new_begin, new_end - new_begin);
    committed += new_end - new_begin;
    ForSlabs(id, block, [&](uint64_t slab) { ++users[slab]; });
    if (!zero) return dirty.Add(begin, end);
    dirty.Add(begin, new_begin);
    dirty.Add(new_end, end);
  }

  // A block that is not cleared yet.
  uint32_t Take(uint64_t block, Ranges& dirty);
};

PageArena::PageArena(std::unique_ptr<ArenaMemory> memory, uint64_t budget_bytes)
    : state_(std::make_unique<State>()) {
  // Ids are 32 bits, and the last one means "no page".
  const uint64_t addressable = uint64_t{kNoPage} * kPageIdUnit;
  const uint64_t reserved = std::min(memory->reserved_bytes(), addressable);
  state_->budget = budget_bytes == 0 ? reserved : std::min(budget_bytes, reserved);
  state_->memory = std::move(memory);
  state_->users.resize(reserved / kSlab);
  state_->taken.resize(reserved / kSlab);
}

PageArena::~PageArena() = default;

uint32_t PageArena::State::Take(uint64_t block, Ranges& dirty) {
  SizeClass& c = classes[block];
  const auto fail = [&](const char* why) {
    Throw(ErrorCode::kOutOfMemory,
          "a cache page of {:.2f} MiB does not fit: {} (budget {:.1f} MiB, in use {:.1f} MiB); use "
          "a smaller context or "
          "cache type, or a larger cache budget",
          Mebibytes(block), why, Mebibytes(budget), Mebibytes(committed));
  };
  const bool fresh = c.free.empty();
  if (fresh && !AddRun(c, block)) fail("the cache's addresses are used up");
  auto it = c.free.begin();
  const auto affordable = [&](uint32_t id) {
    return committed + NewSlabs(id, block) * kSlab <= budget;
  };
  while (it != c.free.end() && !affordable(*it)) ++it;
  if (it == c.free.end()) {
    if (fresh) DropRun(c, RunOf(c, *c.free.begin()), block);
    fail("the cache's budget is used up");
  }
  const uint32_t id = *it;
  try {
    HoldSlabs(id, block, dirty);
  } catch (...) {
    if (fresh) DropRun(c, RunOf(c, id), block);
    throw;
  }
  c.free.erase(it);
  ++RunOf(c, id).live;
  return id;
}

uint32_t PageArena::Allocate(uint64_t bytes) {
  std::vector<uint32_t> ids;
  Allocate(bytes, 1, ids);
  return ids[0];
}

void PageArena::Allocate(uint64_t bytes, int64_t count, std::vector<uint32_t>& ids) {
  TQ_CHECK(bytes > 0);
  const size_t before = ids.size();
  ids.reserve(before + static_cast<size_t>(count));
  Ranges dirty;
  dirty.ranges.reserve(2 * static_cast<size_t>(count));  // a block that is taken must not throw
  try {
    for (; count > 0; --count) ids.push_back(state_->Take(RoundBlock(bytes), dirty));
    for (const auto& [begin, end] : dirty.ranges) state_->memory->ZeroBlock(begin, end - begin);
  } catch (...) {
    for (; ids.size() > before; ids.pop_back()) Free(ids.back(), bytes);
    throw;
  }
}

void PageArena::Free(uint32_t id, uint64_t bytes) {
  State& s = *state_;
  const uint64_t block = RoundBlock(bytes);
  SizeClass& c = s.classes[block];
  Run& run = s.RunOf(c, id);
  TQ_CHECK((id * kPageIdUnit - run.first_slab * kSlab) % block == 0);
  TQ_CHECK(c.free.insert(id).second);  // else freed twice
  s.ReleaseSlabs(id, block);
  if (--run.live == 0) s.DropRun(c, Run(run), block);
}

uint64_t PageArena::ExtraCommit(uint64_t bytes, int64_t count) const {
  const State& s = *state_;
  const uint64_t block = RoundBlock(bytes);
  std::set<uint64_t> slabs;
  if (const auto it = s.classes.find(block); it != s.classes.end()) {
    for (auto id = it->second.free.begin(); id != it->second.free.end() && count > 0;
         ++id, --count) {
      State::ForSlabs(*id, block, [&](uint64_t slab) {
        if (s.users[slab] == 0) slabs.insert(slab);
      });
    }
  }
  return slabs.size() * kSlab + CommitFor(bytes, count);
}

uint64_t PageArena::CommitFor(uint64_t bytes, int64_t count) {
  if (count <= 0) return 0;
  const uint64_t block = RoundBlock(bytes);
  const uint64_t per_run = RunSlabs(block) * kSlab / block;
  const uint64_t runs = static_cast<uint64_t>(count) / per_run,
                 rest = static_cast<uint64_t>(count) % per_run;
  return (runs * SlabsOver(per_run * block) + SlabsOver(rest * block)) * kSlab;
}

bool PageArena::Fits(uint64_t bytes, int64_t count) const {
  return state_->committed + ExtraCommit(bytes, count) <= state_->budget;
}

ArenaMemory& PageArena::memory() const { return *state_->memory; }
std::byte* PageArena::base() const { return state_->memory->base(); }
uint64_t PageArena::committed_bytes() const { return state_->committed; }
uint64_t PageArena::budget_bytes() const { return state_->budget; }

}  // namespace tq
