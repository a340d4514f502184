// SPDX-License-Identifier: Apache-2.0
// What KvCache knows; private to the layer (cache, append plan, session file).
#pragma once

#include <memory>
#include <vector>

#include "turboquant/kv/kv_layout.h"
#include "turboquant/kv/page_records.h"

namespace tq {

// One sequence's pages of one group: arrays that views point into. Pages below first_page were
// given up. Pages behind the sinks keep a form from first_of_form on, which is further on for
// earlier forms.
struct PageTable {
  explicit PageTable(const KvGroup& group)
      : blocks(group.forms.size()),
        first_of_form(group.forms.size() - 1, group.visibility.sink_pages),
        lost_below(group.forms.size() - 1) {}

  std::vector<std::vector<uint32_t>> blocks;  // [forms][pages]
  std::vector<RecordId> records;
  int first_page = 0;
  std::vector<int> first_of_form;  // [forms - 1]: the last form goes with the page
  // first_of_form as a truncation left it that was not exact: pages below had aged too far for it,
  // and stay so.
  std::vector<int> lost_below;

  int pages() const { return static_cast<int>(records.size()); }
  RecordId Record(int page) const { return records[static_cast<size_t>(page)]; }
  uint32_t& Block(int form, int page) {
    return blocks[static_cast<size_t>(form)][static_cast<size_t>(page)];
  }
  uint32_t Block(int form, int page) const {
    return blocks[static_cast<size_t>(form)][static_cast<size_t>(page)];
  }
  int& FirstOf(int form) { return first_of_form[static_cast<size_t>(form)]; }
  int FirstOf(int form) const { return first_of_form[static_cast<size_t>(form)]; }
  // The first of the forms that the sequence keeps of a page, first_page or later.
  int FirstForm(const KvGroup& group, int page) const {
    if (group.IsSink(page)) return kOpenForm;
    int form = 0;
    while (form + 1 < group.num_forms() && page < FirstOf(form)) ++form;
    return form;
  }
};

struct KvSequence {
  int64_t length = 0;
  int64_t recomputed = 0;  // the length to which tokens are appended again after that truncation
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
  uint64_t ExtraCommit(const std::vector<BlockCounts>& blocks) const;

  KvGeometry geometry;
  CachePolicy policy;
  KvLayout layout;
  PageArena arena;
  std::vector<PageRecords> records;  // [groups]
  std::vector<std::unique_ptr<KvSequence>> sequences;
  struct PlannedSeal {
    int group;
    RecordId record;
    int form;
  };
  PageFormRecord& RecordOf(const PlannedSeal& seal) {
    return records[static_cast<size_t>(seal.group)][seal.record][static_cast<size_t>(seal.form)];
  }
  std::vector<PlannedSeal> plan_under_way;
};

}  // namespace tq
