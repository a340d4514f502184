// SPDX-License-Identifier: Apache-2.0
// What KvCache knows; private to the layer (cache, append plan, session file).
#pragma once

#include <memory>
#include <vector>

#include "turboquant/kv/kv_layout.h"
#include "turboquant/kv/page_records.h"

namespace tq {

// One sequence's pages of one group: arrays that views point into. Pages below first_page were
// given up. Pages behind the sinks and below first_open have only their sealed form.
struct PageTable {
  std::vector<uint32_t> open;
  std::vector<uint32_t> sealed;
  std::vector<RecordId> records;
  int first_page = 0;
  int first_open = 0;

  int pages() const { return static_cast<int>(records.size()); }
  bool HasOpen(const KvGroup& group, int page) const {
    return page >= first_page && (page >= first_open || group.IsSink(page));
  }
};

struct KvSequence {
  int64_t length = 0;
  std::vector<PageTable> tables;  // [groups]
};

struct KvCache::State {
  State(const KvGeometry& geometry, const CachePolicy& policy, std::unique_ptr<ArenaMemory> memory,
        uint64_t budget);

  KvSequence& Get(SequenceId id) const;  // throws kInvalidArgument
  SequenceId Add(std::unique_ptr<KvSequence> sequence);
  // Forgets a plan that was never committed.
  void AbandonPlan();
  // Gives up pages [pages, ...) of the table.
  void DropTail(int group, PageTable& table, int pages);
  // Gives up what a sequence of this length need not hold any more.
  void Trim(int group, PageTable& table, int64_t kept_length);
  // Is the state at `length` all there, so that going on from it is bit-exact?
  bool IsExact(const KvSequence& sequence, int64_t length) const;
  // Bytes to commit for blocks [groups] beside what is in use.
  uint64_t ExtraCommit(const std::vector<BlockCount>& blocks) const;

  KvGeometry geometry;
  CachePolicy policy;
  KvLayout layout;
  PageArena arena;
  std::vector<PageRecords> records;  // [groups]
  std::vector<std::unique_ptr<KvSequence>> sequences;
  struct PlannedSeal {
    int group;
    RecordId record;
  };
  std::vector<PlannedSeal> plan_under_way;
};

}  // namespace tq
