// SPDX-License-Identifier: Apache-2.0
#include "turboquant/kv/kv_cache.h"

#include <algorithm>
#include <utility>

#include "turboquant/base/error.h"
#include "turboquant/kv/kv_state.h"

namespace tq {

KvCache::State::State(const KvGeometry& geometry, const CachePolicy& policy,
                      std::unique_ptr<ArenaMemory> memory, uint64_t budget)
    : geometry(geometry),
      policy(policy),
      layout(geometry, policy),
      arena(std::move(memory), budget) {
  for (const KvGroup& group : layout.groups) records.emplace_back(arena, FormBytes(group));
}

KvSequence& KvCache::State::Get(SequenceId id) const {
  if (id < 0 || static_cast<size_t>(id) >= sequences.size() ||
      sequences[static_cast<size_t>(id)] == nullptr) {
    Throw(ErrorCode::kInvalidArgument, "the cache has no sequence {}", id);
  }
  return *sequences[static_cast<size_t>(id)];
}

SequenceId KvCache::State::Add(std::unique_ptr<KvSequence> sequence) {
  auto slot = std::find(sequences.begin(), sequences.end(), nullptr);
  if (slot == sequences.end()) slot = sequences.insert(slot, nullptr);
  *slot = std::move(sequence);
  return static_cast<SequenceId>(slot - sequences.begin());
}

void KvCache::State::AbandonPlan() {
  for (const PlannedSeal& seal : plan_under_way)
    RecordOf(seal).planned_tasks = RecordOf(seal).sealed_tasks;
  plan_under_way.clear();
}

void KvCache::State::DropTail(int g, PageTable& table, int pages) {
  const auto index = static_cast<size_t>(g);
  const KvGroup& group = layout.groups[index];
  for (int page = std::max(pages, table.first_page); page < table.pages(); ++page)
    records[index].Drop(table.Record(page), table.FirstForm(group, page));
  const int size = std::min(pages, table.pages());
  for (std::vector<uint32_t>& blocks : table.blocks) blocks.resize(static_cast<size_t>(size));
  table.records.resize(static_cast<size_t>(size));
  table.first_page = std::min(table.first_page, size);
  for (int& first : table.first_of_form)
    first = std::max(std::min(first, size), group.visibility.sink_pages);
  for (int& lost : table.lost_below) lost = std::min(lost, size);
}

void KvCache::State::Trim(int g, PageTable& table, int64_t kept_length) {
  const auto index = static_cast<size_t>(g);
  const KvGroup& group = layout.groups[index];
  for (const int first = group.FirstPage(kept_length); table.first_page < first;
       ++table.first_page) {
    const int page = table.first_page;
    records[index].Drop(table.Record(page), table.FirstForm(group, page));
    table.records[static_cast<size_t>(page)] = kNoRecord;
    for (std::vector<uint32_t>& blocks : table.blocks) blocks[static_cast<size_t>(page)] = kNoPage;
  }
  for (int form = 0; form + 1 < group.num_forms(); ++form) {
    int& first = table.FirstOf(form);
    first = std::max(first, table.first_page);
    for (const int needed = group.FirstOfForm(form, kept_length); first < needed; ++first) {
      const RecordId record = table.Record(first);
      if (records[index][record][static_cast<size_t>(form + 1)].sealed_tasks < group.tasks) break;
      records[index].DropForm(record, form);
      table.Block(form, first) = kNoPage;
    }
  }
}

bool KvCache::State::IsExact(const KvSequence& sequence, int64_t length) const {
  if (length == 0) return true;
  for (size_t g = 0; g < layout.groups.size(); ++g) {
    const KvGroup& group = layout.groups[g];
    const PageTable& table = sequence.tables[g];
    if (group.FirstPage(length) < table.first_page) return false;
    for (int form = 0; form + 1 < group.num_forms(); ++form) {
      const int lost =
          length < sequence.recomputed ? 0 : table.lost_below[static_cast<size_t>(form)];
      const int needed = std::max(group.FirstOfForm(form, length), lost);
      if (needed < std::min(table.FirstOf(form), PagesFor(length))) return false;
    }
  }
  return true;
}

KvCache::KvCache(const KvGeometry& geometry, const CachePolicy& policy,
                 std::unique_ptr<ArenaMemory> memory, uint64_t budget_bytes)
    : state_(std::make_unique<State>(geometry, policy, std::move(memory), budget_bytes)) {}
KvCache::~KvCache() = default;

const KvGeometry& KvCache::geometry() const { return state_->geometry; }
const CachePolicy& KvCache::policy() const { return state_->policy; }

SequenceId KvCache::NewSequence() {
  auto sequence = std::make_unique<KvSequence>();
  for (const KvGroup& group : state_->layout.groups) sequence->tables.emplace_back(group);
  return state_->Add(std::move(sequence));
}

void KvCache::FreeSequence(SequenceId id) {
  KvSequence& sequence = state_->Get(id);
  state_->AbandonPlan();
  for (size_t g = 0; g < sequence.tables.size(); ++g)
    state_->DropTail(static_cast<int>(g), sequence.tables[g], 0);
  state_->sequences[static_cast<size_t>(id)].reset();
}

SequenceId KvCache::Fork(SequenceId id) {
  State& s = *state_;
  const KvSequence& parent = s.Get(id);
  s.AbandonPlan();
  const SequenceId child = s.Add(std::make_unique<KvSequence>(parent));  // first what may throw
  for (size_t g = 0; g < parent.tables.size(); ++g) {
    const PageTable& table = parent.tables[g];
    for (int page = table.first_page; page < table.pages(); ++page) {
      s.records[g].Share(table.Record(page), table.FirstForm(s.layout.groups[g], page));
    }
  }
  return child;
}

int64_t KvCache::Length(SequenceId id) const { return state_->Get(id).length; }

int64_t KvCache::Truncate(SequenceId id, int64_t length) {
  State& s = *state_;
  KvSequence& sequence = s.Get(id);
  if (length < 0)
    Throw(ErrorCode::kInvalidArgument, "a sequence cannot be shortened to {} tokens", length);
  if (length >= sequence.length) return sequence.length;
  s.AbandonPlan();
  const bool exact = s.IsExact(sequence, length);
  if (!exact) {
    sequence.recomputed = length;
    // Whole pages before the window are kept, in whatever form they have; the window's tokens are
    // appended again.
    int window = s.policy.window_pages();
    for (const KvGroup& group : s.layout.groups) {
      if (group.visibility.seals)
        window = std::max(window, s.policy.window_pages(group.visibility.sliding_window));
    }
    length = std::max<int64_t>(0, length / kPageTokens - window) * kPageTokens;
    for (size_t g = 0; g < sequence.tables.size(); ++g) {
      if (s.layout.groups[g].FirstPage(length) < sequence.tables[g].first_page) length = 0;
    }
  }
  for (size_t g = 0; g < sequence.tables.size(); ++g) {
    PageTable& table = sequence.tables[g];
    s.DropTail(static_cast<int>(g), table, PagesFor(length));
    if (!exact) table.lost_below = table.first_of_form;
    if (length % kPageTokens == 0) continue;
    // The page is not full any more. Its sealing goes on only where a fork still sees it full.
    for (size_t form = kSealedForm; form < table.blocks.size(); ++form)
      table.blocks[form].back() = kNoPage;
    if (s.records[g].Holders(table.records.back()) == 1)
      s.records[g].VoidSealing(table.records.back());
  }
  sequence.length = length;
  return length;
}

KvLayerView KvCache::View(SequenceId id, int layer) const {
  const State& s = *state_;
  const KvSequence& sequence = s.Get(id);
  if (layer < 0 || layer >= s.geometry.num_layers) {
    Throw(ErrorCode::kInvalidArgument, "there is no layer {}; the model has {}", layer,
          s.geometry.num_layers);
  }
  const auto [g, index] = s.layout.place_of_layer[static_cast<size_t>(layer)];
  const KvGroup& group = s.layout.groups[static_cast<size_t>(g)];
  const KvGroup::Layer& place = group.layers[static_cast<size_t>(index)];
  const PageTable& table = sequence.tables[static_cast<size_t>(g)];
  KvLayerView view;
  view.arena = s.arena.base();
  view.open_pages = table.blocks[kOpenForm].data();
  view.num_pages = table.pages();
  view.length = sequence.length;
  view.open_layer_offset = place.places[kOpenForm].offset;
  view.open = view.sealed = place.open();
  view.visibility = group.visibility;
  if (!group.visibility.seals) {
    view.sealed_pages = view.open_pages;
    return view;
  }
  view.sealed_pages = table.blocks[kSealedForm].data();
  view.sealed_layer_offset = place.places[kSealedForm].offset;
  view.sealed = place.places[kSealedForm].layout;
  view.visibility.sealed_below = table.FirstOf(kOpenForm);
  for (int form = kSealedForm + 1; form < group.num_forms(); ++form) {
    const auto f = static_cast<size_t>(form);
    view.aged[static_cast<size_t>(view.num_aged++)] = {
        group.form(form).window_pages, table.FirstOf(form - 1), table.blocks[f].data(),
        place.places[f].offset, place.places[f].layout};
  }
  return view;
}

}  // namespace tq
