// SPDX-License-Identifier: Apache-2.0
// What a cache takes, and what it would.
#include <algorithm>
#include <cmath>
#include <map>

#include "turboquant/base/error.h"
#include "turboquant/base/mebibytes.h"
#include "turboquant/kv/kv_state.h"

namespace tq {
namespace {

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

uint64_t KvCache::State::ExtraCommit(const std::vector<BlockCounts>& blocks) const {
  uint64_t bytes = 0;
  for (const auto& [size, count] : BlocksBySize(layout, blocks))
    bytes += arena.ExtraCommit(size, count);
  return bytes;
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
        tokens, Mebibytes(need), Mebibytes(s.arena.committed_bytes()),
        Mebibytes(s.arena.budget_bytes()), fits);
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
  std::vector<int>& windows = geometry.sliding_window;
  if (std::ranges::find(windows, 0) == windows.end()) std::ranges::fill(windows, 0);
  const double values = 2.0 * geometry.kv_heads * geometry.head_dim *
                        static_cast<double>(std::ranges::count(windows, 0));
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
