// SPDX-License-Identifier: Apache-2.0
// Pages as shared objects: who holds them, where their forms lie, how far sealing has come.
#pragma once

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "turboquant/kv/kv_view.h"
#include "turboquant/kv/page_arena.h"

namespace tq {

using RecordId = int32_t;
inline constexpr RecordId kNoRecord = -1;

// One form of a page.
struct PageFormRecord {
  uint32_t block = kNoPage;  // freed when no holder keeps it; a sealed one is there from the first
                             // seal task on
  int holders =
      0;  // sequences that may still read it, truncate into it, or make the next form of it
  int sealed_tasks = 0;   // carried out
  int planned_tasks = 0;  // carried out when the plan under way is committed
};
using PageRecord = std::array<PageFormRecord, kMaxForms>;

// The records of one group of layers.
class PageRecords {
 public:
  // form_bytes: of a block in each form that pages of the group go through.
  PageRecords(PageArena& arena, std::vector<uint64_t> form_bytes)
      : arena_(arena), form_bytes_(std::move(form_bytes)) {}

  PageRecord& operator[](RecordId id) { return records_[static_cast<size_t>(id)]; }
  const PageRecord& operator[](RecordId id) const { return records_[static_cast<size_t>(id)]; }
  size_t size() const { return records_.size(); }

  // Sequences that hold the page: nobody gives up the last form alone.
  int Holders(RecordId id) const { return (*this)[id][form_bytes_.size() - 1].holders; }

  // Makes room for `count` more records, so that Add does not allocate.
  void Prepare(size_t count) {
    records_.reserve(records_.size() + count);
    free_.reserve(records_.size() + count);
  }
  // A record whose one holder keeps forms [first_form, ...). No blocks yet.
  RecordId Add(int first_form) {
    RecordId id;
    if (free_.empty()) {
      id = static_cast<RecordId>(records_.size());
      records_.emplace_back();
    } else {
      id = free_.back();
      free_.pop_back();
    }
    (*this)[id] = {};
    Share(id, first_form);
    return id;
  }
  RecordId AddOpen(uint32_t block) {
    const RecordId id = Add(kOpenForm);
    (*this)[id][kOpenForm].block = block;
    return id;
  }
  // One holder more, of forms [first_form, ...).
  void Share(RecordId id, int first_form) {
    for (auto form = static_cast<size_t>(first_form); form < form_bytes_.size(); ++form)
      ++(*this)[id][form].holders;
  }
  // One holder gives up one form.
  void DropForm(RecordId id, int form) {
    PageFormRecord& record = (*this)[id][static_cast<size_t>(form)];
    if (--record.holders == 0) FreeBlock(record, static_cast<size_t>(form));
  }
  // One holder, of forms [first_form, ...), gives up the page.
  void Drop(RecordId id, int first_form) {
    for (int form = first_form; form < static_cast<int>(form_bytes_.size()); ++form)
      DropForm(id, form);
    if (Holders(id) == 0) free_.push_back(id);
  }
  // Forgets the sealed forms: the open one is about to change.
  void VoidSealing(RecordId id) {
    for (size_t form = kSealedForm; form < form_bytes_.size(); ++form) {
      PageFormRecord& record = (*this)[id][form];
      FreeBlock(record, form);
      record.sealed_tasks = record.planned_tasks = 0;
    }
  }

 private:
  void FreeBlock(PageFormRecord& record, size_t form) {
    if (record.block != kNoPage) arena_.Free(record.block, form_bytes_[form]);
    record.block = kNoPage;
  }

  PageArena& arena_;
  std::vector<uint64_t> form_bytes_;
  std::vector<PageRecord> records_;
  std::vector<RecordId> free_;
};

}  // namespace tq
