// SPDX-License-Identifier: Apache-2.0
#include "turboquant/kv/kv_cache.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <utility>

#include "turboquant/base/error.h"
#include "turboquant/kv/kv_state.h"

namespace tq {
namespace {

double Mib(uint64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

// Blocks of one size share slabs, whatever group or form they belong to.
std::map<uint64_t, int64_t> BlocksBySize(const KvLayout& layout,
                                         const std::vector<BlockCounts>& blocks) {
  std::map<uint64_t, int64_t> by_size;
  for (size_t g = 0; g < blocks.size(); ++g) {
    for (size_t form = 0; form < blocks[g].size(); ++form)
      by_size[layout.groups[g].forms[form].bytes] += blocks[g][form];
  }
  return by_size;
}

}  // namespace

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

uint64_t KvCache::State::ExtraCommit(const std::vector<BlockCounts>& blocks) const {
  uint64_t bytes = 0;
  for (const auto& [size, count] : BlocksBySize(layout, blocks))
    bytes += arena.ExtraCommit(size, count);
  return bytes;
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
    length = std::max<int64_t>(0, length / kPageTokens - s.policy.window_pages()) * kPageTokens;
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

void KvCache::Reserve(SequenceId id, int64_t tokens) {
  const State& s = *state_;
  const KvSequence& sequence = s.Get(id);
  if (tokens < 0) Throw(ErrorCode::kInvalidArgument, "cannot reserve {} tokens", tokens);
  // Blocks that growing by `more` tokens takes at its peak, beyond those held now.
  const auto extra = [&](int64_t more) {
    std::vector<BlockCounts> blocks;
    for (size_t g = 0; g < s.layout.groups.size(); ++g) {
      BlockCounts counts =
          MostBlocks(s.layout.groups[g], s.policy.rollback, sequence.length + more, kReserveChunk);
      const PageTable& table = sequence.tables[g];
      for (int page = table.first_page; page < table.pages(); ++page) {
        for (int form = 0; form < static_cast<int>(counts.size()); ++form) {
          // An open page that a fork also holds is copied before it is written.
          const bool copied = form == kOpenForm && page == sequence.length / kPageTokens &&
                              s.records[g].Holders(table.Record(page)) > 1;
          counts[static_cast<size_t>(form)] -= table.Block(form, page) != kNoPage && !copied;
        }
      }
      for (int64_t& count : counts) count = std::max<int64_t>(count, 0);
      blocks.push_back(std::move(counts));
    }
    return s.ExtraCommit(blocks);
  };
  const uint64_t room = s.arena.budget_bytes() - s.arena.committed_bytes();
  const uint64_t need = extra(tokens);
  if (need <= room) return;
  int64_t fits = 0, too_many = tokens;
  while (too_many - fits > 1) {
    const int64_t middle = fits + (too_many - fits) / 2;
    (extra(middle) <= room ? fits : too_many) = middle;
  }
  Throw(ErrorCode::kOutOfMemory,
        "{} more tokens need {:.1f} MiB of cache beside the {:.1f} MiB in use, but the budget is "
        "{:.1f} MiB; {} tokens would "
        "fit: use a smaller context or cache type, or a larger cache budget",
        tokens, Mib(need), Mib(s.arena.committed_bytes()), Mib(s.arena.budget_bytes()), fits);
}

KvMemory KvCache::Memory() const {
  const State& s = *state_;
  KvMemory memory;
  memory.committed_bytes = s.arena.committed_bytes();
  int64_t values = 0;
  for (size_t g = 0; g < s.layout.groups.size(); ++g) {
    const KvGroup& group = s.layout.groups[g];
    std::vector<int64_t> tokens(
        s.records[g].size());  // of each record; sequences that share one may see fewer of them
    for (const auto& sequence : s.sequences) {
      if (sequence == nullptr) continue;
      const PageTable& table = sequence->tables[g];
      for (int page = table.first_page; page < table.pages(); ++page) {
        int64_t& seen = tokens[static_cast<size_t>(table.Record(page))];
        seen = std::max(
            seen, std::min<int64_t>(kPageTokens, sequence->length - int64_t{page} * kPageTokens));
      }
    }
    for (size_t r = 0; r < tokens.size(); ++r) {
      const PageRecord& record = s.records[g][static_cast<RecordId>(r)];
      if (tokens[r] == 0) continue;
      values += tokens[r] * group.values_per_token;
      for (int form = 0; form < group.num_forms(); ++form) {
        if (record[static_cast<size_t>(form)].block == kNoPage) continue;
        const uint64_t bytes = group.form(form).bytes;
        (form == kOpenForm ? memory.open_bytes : memory.sealed_bytes) += bytes;
        if (form > kSealedForm) memory.aged_bytes += bytes;
      }
    }
  }
  memory.used_bytes = memory.open_bytes + memory.sealed_bytes;
  if (values > 0)
    memory.bits_per_value =
        static_cast<double>(memory.used_bytes) * 8 / static_cast<double>(values);
  return memory;
}

uint64_t KvCache::BytesPerToken(const KvGeometry& geometry, const CachePolicy& policy,
                                int64_t context) {
  double page_bytes = 0;
  for (const KvGroup& group : KvLayout(geometry, policy).groups) {
    if (group.visibility.sliding_window != 0) continue;
    // The part of the tokens that has come to a form or further.
    const auto reached = [&](int form) {
      if (form == group.num_forms()) return 0.0;
      const int window = group.form(form).window_pages;
      if (form == kOpenForm || window <= policy.window_pages() || context == 0) return 1.0;
      return std::max(0.0, 1 - static_cast<double>(int64_t{window} * kPageTokens) /
                                   static_cast<double>(context));
    };
    for (int form = 0; form < group.num_forms(); ++form)
      page_bytes +=
          (reached(form) - reached(form + 1)) * static_cast<double>(group.form(form).bytes);
  }
  return static_cast<uint64_t>(std::ceil(page_bytes / kPageTokens));
}

double KvCache::BitsPerValue(const KvGeometry& given, const CachePolicy& policy, int64_t context) {
  KvGeometry geometry = given;
  std::fill(geometry.sliding_window.begin(), geometry.sliding_window.end(), 0);
  const double values = 2.0 * geometry.kv_heads * geometry.head_dim * geometry.num_layers;
  return 8.0 * static_cast<double>(BytesPerToken(geometry, policy, context)) / values;
}

uint64_t KvCache::BytesForContext(const KvGeometry& geometry, const CachePolicy& policy,
                                  int64_t tokens, int chunk) {
  const KvLayout layout(geometry, policy);
  std::vector<BlockCounts> blocks;
  for (const KvGroup& group : layout.groups)
    blocks.push_back(MostBlocks(group, policy.rollback, tokens, std::max(chunk, 1)));
  uint64_t bytes = 0;
  for (const auto& [size, count] : BlocksBySize(layout, blocks))
    bytes += PageArena::CommitFor(size, count);
  return bytes;
}

}  // namespace tq
