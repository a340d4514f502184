// SPDX-License-Identifier: Apache-2.0
#include "turboquant/engine/cache_watch.h"

#include <algorithm>
#include <cstring>

#include "turboquant/backend/cpu/basis_change.h"
#include "turboquant/kv/kv_layout.h"

namespace tq {
namespace {

constexpr int64_t kPromptQueries = 8;  // last tokens of a prompt that are compared

struct Watchable {
  int layer;
  uint64_t bytes;  // of copies of one head, at the context
};

// Layers that are compressed.
std::vector<Watchable> WatchableLayers(const ModelSpec& spec, const CachePolicy& policy,
                                       int64_t context) {
  const KvLayout layout(spec.kv_geometry(), policy);
  std::vector<Watchable> layers;
  for (int layer = 0; layer < spec.num_layers; ++layer) {
    const auto [group, index] = layout.place_of_layer[static_cast<size_t>(layer)];
    const KvGroup& g = layout.groups[static_cast<size_t>(group)];
    if (!g.visibility.seals) continue;
    const int64_t sliding = g.visibility.sliding_window;
    const int64_t held = sliding > 0 ? std::min(sliding + kPageTokens, context) : context;
    const uint64_t head_bytes = g.layers[static_cast<size_t>(index)].open().head_bytes;
    layers.push_back({layer, static_cast<uint64_t>(PagesFor(held)) * head_bytes});
  }
  return layers;
}

}  // namespace

CacheWatch::CacheWatch(const ModelSpec& spec, const CachePolicy& policy,
                       std::span<const KeyMap> key_maps, int64_t context,
                       const CacheWatchOptions& options)
    : spec_(spec), key_maps_(key_maps), options_(options) {
  const std::vector<Watchable> layers = WatchableLayers(spec, policy, context);
  if (layers.empty()) return;
  const uint64_t largest = std::ranges::max(layers, {}, &Watchable::bytes).bytes;
  const size_t fit =
      std::clamp<size_t>(options.max_copy_bytes / std::max<uint64_t>(largest, 1), 1, layers.size());
  for (size_t i = 0; i < fit; ++i) {  // evenly spread, first and last among them
    const size_t at = fit == 1 ? 0 : i * (layers.size() - 1) / (fit - 1);
    heads_.push_back({layers[at].layer, layers[at].layer % spec.kv_heads, {}, {}, false, 0, {}});
  }
}

Observer* CacheWatch::BeforeStep(int64_t tokens, bool last) {
  for (Head& head : heads_) head.due = false;
  if (heads_.empty()) return nullptr;
  if (tokens > 1) {
    if (!last) return nullptr;
    for (Head& head : heads_) head.due = true;
    return this;
  }
  if (++steps_ % options_.every != 0) return nullptr;
  heads_[next_].due = true;
  next_ = (next_ + 1) % heads_.size();
  return this;
}

void CacheWatch::Layer(int layer, SequenceId, int64_t, MatrixView<float> q, MatrixView<float>,
                       MatrixView<float>) {
  for (Head& head : heads_) {
    if (!head.due || head.layer != layer) continue;
    head.tokens = std::min(q.rows, kPromptQueries);
    head.queries.resize(static_cast<size_t>(head.tokens * q.cols));
    for (int64_t t = 0; t < head.tokens; ++t) {
      std::memcpy(head.queries.data() + t * q.cols, q.row(q.rows - head.tokens + t),
                  static_cast<size_t>(q.cols) * sizeof(float));
    }
  }
}

void CacheWatch::AfterStep(const KvCache& cache, SequenceId sequence) {
  const int64_t full = cache.Length(sequence) / kPageTokens;
  bool compared = false;
  for (Head& head : heads_) {
    if (full == pages_ && !head.due) continue;
    const KvLayerView view = cache.View(sequence, head.layer);
    CopyPages(view, head);
    if (!head.due) continue;
    Compare(view, head);
    compared = true;
  }
  pages_ = full;
  if (broken_ || !compared) return;
  if (const CacheDrift now = drift(); now.broken) {
    broken_ = true;
    if (options_.on_broken) options_.on_broken(now);
  }
}

void CacheWatch::CopyPages(const KvLayerView& view, Head& head) const {
  const int64_t full = view.length / kPageTokens;
  for (int64_t page = std::max<int64_t>(pages_, view.visibility.sink_pages); page < full; ++page) {
    if (view.open_pages[page] == kNoPage) continue;  // the step was too long, or a file brought it
    AlignedBuffer<std::byte>& copy = head.copies[static_cast<int>(page)];
    copy = AlignedBuffer<std::byte>(view.open.head_bytes);
    std::memcpy(copy.data(), view.OpenHead(static_cast<int>(page), head.kv_head), copy.size());
  }
  const auto first = static_cast<int>(view.visibility.FirstVisible(view.length) / kPageTokens);
  head.copies.erase(head.copies.begin(), head.copies.lower_bound(first));
}

void CacheWatch::Compare(const KvLayerView& view, Head& head) const {
  const int64_t heads = spec_.q_heads, dim = spec_.head_dim, group = heads / spec_.kv_heads;
  AttentionArgs args;
  args.kv = view;
  args.tokens = static_cast<int>(head.tokens);
  args.q_heads = spec_.q_heads;
  args.q_stride = heads * dim;
  const KeyMap* maps =
      key_maps_.empty() ? nullptr : &key_maps_[static_cast<size_t>(head.layer * spec_.kv_heads)];
  QueriesToStored(head.queries.data(), args, maps, ThreadPool(1));
  head.drift += MeasureAttentionDrift(
      view, head.kv_head,
      {head.queries.data() + head.kv_head * group * dim, head.tokens, group * dim, heads * dim},
      spec_.attention_scale, head.copies);
  head.due = false;
}

void CacheWatch::Truncate(int64_t length) {
  pages_ = std::min(pages_, length / kPageTokens);
  for (Head& head : heads_)
    head.copies.erase(head.copies.lower_bound(static_cast<int>(pages_)), head.copies.end());
}

CacheDrift CacheWatch::drift() const {
  CacheDrift drift;
  drift.broken = broken_;
  double worst = -1;
  for (const Head& head : heads_) {
    for (const auto& [page, copy] : head.copies) drift.copy_bytes += copy.size();
    drift.heads.push_back({head.layer, head.kv_head, head.drift});
    drift.all += head.drift;
    const double error = head.drift.RelativeError();
    if (head.drift.queries == 0 || error <= worst) continue;
    worst = error;
    drift.worst = static_cast<int>(drift.heads.size()) - 1;
    drift.broken |= error > options_.threshold;
  }
  return drift;
}

}  // namespace tq
