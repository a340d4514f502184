// SPDX-License-Identifier: Apache-2.0
// Pages as shared objects: who holds them, where their forms lie, how far sealing has come.
#pragma once

#include <cstdint>
#include <vector>

#include "turboquant/kv/kv_view.h"
#include "turboquant/kv/page_arena.h"

namespace tq {

using RecordId = int32_t;
inline constexpr RecordId kNoRecord = -1;

struct PageRecord {
  uint32_t open = kNoPage;    // block of the open form; freed when no holder keeps it
  uint32_t sealed = kNoPage;  // block of the sealed form; there from the first seal task on
  int holders = 0;            // sequences
  int open_holders = 0;       // sequences that may still read or truncate into the open form
  int sealed_tasks = 0;       // carried out
  int planned_tasks = 0;      // carried out when the plan under way is committed
};

// The records of one group of layers.
class PageRecords {
 public:
  PageRecords(PageArena& arena, uint64_t open_bytes, uint64_t sealed_bytes)
      : arena_(arena), open_bytes_(open_bytes), sealed_bytes_(sealed_bytes) {}

  PageRecord& operator[](RecordId id) { return records_[static_cast<size_t>(id)]; }
  const PageRecord& operator[](RecordId id) const { return records_[static_cast<size_t>(id)]; }
  size_t size() const { return records_.size(); }

  // Makes room for `count` more records, so that Add does not allocate.
  void Prepare(size_t count) {
    records_.reserve(records_.size() + count);
    free_.reserve(records_.size() + count);
  }
  // A record with one holder. Takes over the blocks.
  RecordId Add(uint32_t open, uint32_t sealed) {
    RecordId id;
    if (free_.empty()) {
      id = static_cast<RecordId>(records_.size());
      records_.emplace_back();
    } else {
      id = free_.back();
      free_.pop_back();
    }
    (*this)[id] = {open, sealed, 1, open == kNoPage ? 0 : 1, 0, 0};
    return id;
  }
  void Share(RecordId id, bool with_open) {
    ++(*this)[id].holders;
    if (with_open) ++(*this)[id].open_holders;
  }
  // One holder gives up the open form.
  void DropOpen(RecordId id) {
    PageRecord& record = (*this)[id];
    if (--record.open_holders > 0) return;
    arena_.Free(record.open, open_bytes_);
    record.open = kNoPage;
  }
  // One holder gives up the page.
  void Drop(RecordId id, bool with_open) {
    if (with_open) DropOpen(id);
    PageRecord& record = (*this)[id];
    if (--record.holders > 0) return;
    VoidSealing(id);
    free_.push_back(id);
  }
  // Forgets the sealed form: the open one is about to change.
  void VoidSealing(RecordId id) {
    PageRecord& record = (*this)[id];
    if (record.sealed != kNoPage) arena_.Free(record.sealed, sealed_bytes_);
    record.sealed = kNoPage;
    record.sealed_tasks = record.planned_tasks = 0;
  }

 private:
  PageArena& arena_;
  uint64_t open_bytes_;
  uint64_t sealed_bytes_;
  std::vector<PageRecord> records_;
  std::vector<RecordId> free_;
};

}  // namespace tq
