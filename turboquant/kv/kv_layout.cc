// SPDX-License-Identifier: Apache-2.0
#include "turboquant/kv/kv_layout.h"

#include <algorithm>

#include "turboquant/base/error.h"

namespace tq {
namespace {

void CheckGeometry(const KvGeometry& geometry, const CachePolicy& policy) {
  const auto layers = static_cast<size_t>(std::max(geometry.num_layers, 0));
  if (geometry.num_layers <= 0 || geometry.kv_heads <= 0 || geometry.head_dim <= 0 ||
      geometry.sliding_window.size() != layers) {
    Throw(ErrorCode::kInvalidArgument,
          "a cache of {} layers, {} KV heads, head dim {} and {} window sizes cannot be meant",
          geometry.num_layers, geometry.kv_heads, geometry.head_dim,
          geometry.sliding_window.size());
  }
  if (policy.k.size() != layers || policy.v.size() != layers) {
    Throw(ErrorCode::kInvalidArgument,
          "the cache policy names {} key and {} value types for {} layers", policy.k.size(),
          policy.v.size(), layers);
  }
  constexpr int kMost = 1 << 30;
  if (policy.window < 0 || policy.window > kMost || policy.sink_pages < 0 ||
      policy.sink_pages > kMost / kPageTokens || policy.rollback < 0 || policy.rollback > kMost) {
    Throw(ErrorCode::kInvalidArgument,
          "cache window {}, sink pages {} and rollback {} must be between 0 and {}", policy.window,
          policy.sink_pages, policy.rollback, kMost);
  }
  for (const int window : geometry.sliding_window) {
    if (window < 0)
      Throw(ErrorCode::kInvalidArgument, "a sliding window of {} tokens cannot be meant", window);
  }
}

uint64_t RoundBlock(uint64_t bytes) {
  return (bytes + kPageIdUnit - 1) / kPageIdUnit * kPageIdUnit;
}

Visibility VisibilityOf(const CachePolicy& policy, size_t layer, int sliding_window) {
  Visibility v;
  v.window_pages = policy.window_pages();
  v.sliding_window = sliding_window;
  v.seals = OpenCodec(policy.k[layer]) != policy.k[layer] ||
            OpenCodec(policy.v[layer]) != policy.v[layer];
  // Pages that leave a short sliding window before they would be read sealed are never sealed at
  // all.
  if (sliding_window != 0 && sliding_window <= v.window_pages * kPageTokens + 1) v.seals = false;
  v.sink_pages = v.seals && sliding_window == 0 ? policy.sink_pages : 0;
  return v;
}

}  // namespace

SealTask KvGroup::Task(SequenceId sequence, int page, int number) const {
  const int per_layer = 2 * layers[0].open.kv_heads;
  return {sequence, layers[static_cast<size_t>(number / per_layer)].layer, page,
          number % per_layer / 2, static_cast<Side>(number % 2)};
}

int KvGroup::FirstPage(int64_t length) const {
  if (visibility.sliding_window == 0 || length == 0) return 0;
  return static_cast<int>(
      std::min(visibility.FirstVisible(length) / kPageTokens, int64_t{PagesFor(length)} - 1));
}

int KvGroup::FirstOpen(int64_t length) const {
  if (!visibility.seals) return FirstPage(length);
  const int64_t first =
      std::min<int64_t>(length / kPageTokens - visibility.window_pages, PagesFor(length) - 1);
  return std::max(
      {static_cast<int>(std::max<int64_t>(first, 0)), FirstPage(length), visibility.sink_pages});
}

int KvGroup::TasksDue(int page, int done, int64_t length, int64_t new_length) const {
  if (!visibility.seals || IsSink(page) || done == tasks) return 0;
  const int64_t until = SealedFrom(page);
  if (new_length > until) return tasks - done;
  if (visibility.window_pages == 0) return 0;
  const int64_t from = std::max(length, until - kPageTokens);
  if (new_length <= from) return 0;
  const int64_t steps = until - from;
  return static_cast<int>(((tasks - done) * (new_length - from) + steps - 1) / steps);
}

KvLayout::KvLayout(const KvGeometry& geometry, const CachePolicy& policy) {
  CheckGeometry(geometry, policy);
  for (int layer = 0; layer < geometry.num_layers; ++layer) {
    const auto l = static_cast<size_t>(layer);
    const Visibility visibility = VisibilityOf(policy, l, geometry.sliding_window[l]);
    auto group = std::find_if(groups.begin(), groups.end(), [&](const KvGroup& g) {
      return g.visibility.sliding_window == visibility.sliding_window &&
             g.visibility.seals == visibility.seals;
    });
    if (group == groups.end()) {
      group = groups.insert(groups.end(), KvGroup{});
      group->visibility = visibility;
    }
    const int heads = geometry.kv_heads, dim = geometry.head_dim;
    KvGroup::Layer entry{layer,
                         MakePageLayout(dim, heads, OpenCodec(policy.k[l]), OpenCodec(policy.v[l])),
                         MakePageLayout(dim, heads, policy.k[l], policy.v[l]), group->open_bytes,
                         group->sealed_bytes};
    if (!visibility.seals) entry.sealed = entry.open;
    group->open_bytes += entry.open.bytes();
    if (visibility.seals) {
      group->sealed_bytes += entry.sealed.bytes();
      group->tasks += 2 * heads;
    }
    group->values_per_token += 2 * int64_t{heads} * dim;
    place_of_layer.emplace_back(static_cast<int>(group - groups.begin()),
                                static_cast<int>(group->layers.size()));
    group->layers.push_back(entry);
  }
  for (KvGroup& group : groups) {
    group.open_bytes = RoundBlock(group.open_bytes);
    group.sealed_bytes = RoundBlock(group.sealed_bytes);
  }
}

BlockCount PeakBlocks(const KvGroup& group, int rollback, int64_t length, int64_t new_length) {
  const int64_t kept = std::max<int64_t>(0, length - rollback);
  const int pages = PagesFor(new_length), first_page = group.FirstPage(kept);
  BlockCount count;
  if (!group.visibility.seals) {
    count.open = pages - first_page;
    return count;
  }
  const int sinks = group.visibility.sink_pages;
  count.open =
      std::max(0, std::min(pages, sinks) - first_page) + std::max(0, pages - group.FirstOpen(kept));
  // Sealing of a page begins with the first step that has a share of it.
  const int64_t ahead = group.visibility.window_pages == 0 ? 0 : kPageTokens;
  const int64_t begun = (new_length + ahead - 1) / kPageTokens - group.visibility.window_pages;
  count.sealed = std::max<int64_t>(0, begun - std::max(first_page, sinks));
  return count;
}

BlockCount MostBlocks(const KvGroup& group, int rollback, int64_t tokens, int chunk) {
  BlockCount most;
  // Open pages repeat with a period of one page; without a sliding window sealed ones only become
  // more.
  const int64_t first = std::max<int64_t>(1, tokens - 2 * kPageTokens);
  for (int64_t length = first; length <= tokens; ++length) {
    const BlockCount count =
        PeakBlocks(group, rollback, std::max<int64_t>(0, length - chunk), length);
    most.open = std::max(most.open, count.open);
    most.sealed = std::max(most.sealed, count.sealed);
  }
  return most;
}

}  // namespace tq
