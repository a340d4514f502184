// SPDX-License-Identifier: Apache-2.0
#include "turboquant/kv/kv_layout.h"

#include <algorithm>

#include "turboquant/base/error.h"

namespace tq {
namespace {

void CheckAges(const CachePolicy& policy) {
  if (policy.ages.size() > kMaxAges) {
    Throw(ErrorCode::kInvalidArgument, "a cache policy with {} ages; {} are the most",
          policy.ages.size(), kMaxAges);
  }
  int window = policy.window_pages();
  for (const AgeStep& step : policy.ages) {
    if (step.age <= 0 || step.age > kMostAge || step.window_pages() <= window) {
      Throw(ErrorCode::kInvalidArgument,
            "cache age {}: tokens fall to fewer bits behind the window and the ages before it, "
            "which end at {} tokens; give more than that, at most {}",
            step.age, int64_t{window} * kPageTokens, kMostAge);
    }
    window = step.window_pages();
    for (const Codec codec : {step.k, step.v}) {
      if (!InfoOf(codec).tiles)
        Throw(ErrorCode::kInvalidArgument, "cache age {}: tokens cannot age to {}", step.age,
              InfoOf(codec).name);
    }
  }
}

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
  CheckAges(policy);
}

uint64_t RoundBlock(uint64_t bytes) {
  return (bytes + kPageIdUnit - 1) / kPageIdUnit * kPageIdUnit;
}

// A form that a layer's pages go through.
struct LayerForm {
  Codec k, v;
  int window_pages;
};

// Open first, then each that differs from the one before. Pages that leave a sliding window before
// they would be read in a form never get it; ages within a layer's window count from its end.
std::vector<LayerForm> FormsOf(const CachePolicy& policy, size_t layer, int sliding_window) {
  std::vector<LayerForm> forms = {{OpenCodec(policy.k[layer]), OpenCodec(policy.v[layer]), 0}};
  const auto add = [&](Codec k, Codec v, int window_pages) {
    if (k == forms.back().k && v == forms.back().v) return;
    if (sliding_window != 0 && sliding_window <= int64_t{window_pages} * kPageTokens + 1) return;
    if (forms.size() > 1 && forms.back().window_pages == window_pages) forms.pop_back();
    forms.push_back({k, v, window_pages});
  };
  Codec k = policy.k[layer], v = policy.v[layer];
  const int window = policy.window_pages(sliding_window);
  add(k, v, window);
  for (const AgeStep& step : policy.ages) {
    k = AgedCodec(k, step.k);
    v = AgedCodec(v, step.v);
    add(k, v, std::max(step.window_pages(), window));
  }
  return forms;
}

Visibility VisibilityOf(const CachePolicy& policy, const std::vector<LayerForm>& forms,
                        int sliding_window) {
  Visibility v;
  v.sliding_window = sliding_window;
  v.seals = forms.size() > 1;
  v.window_pages = v.seals ? forms[kSealedForm].window_pages : policy.window_pages();
  v.sink_pages = v.seals && sliding_window == 0 ? policy.sink_pages : 0;
  return v;
}

bool ChangeTogether(const KvGroup& group, int sliding_window, const std::vector<LayerForm>& forms) {
  return group.visibility.sliding_window == sliding_window &&
         std::ranges::equal(group.forms, forms, {}, &KvGroup::Form::window_pages,
                            &LayerForm::window_pages);
}

}  // namespace

std::vector<Codec> KvCache::FinalKeyCodecs(const KvGeometry& geometry, const CachePolicy& policy) {
  std::vector<Codec> codecs;
  for (size_t layer = 0; layer < policy.k.size(); ++layer)
    codecs.push_back(FormsOf(policy, layer, geometry.sliding_window[layer]).back().k);
  return codecs;
}

int KvGroup::FirstPage(int64_t length) const {
  if (visibility.sliding_window == 0 || length == 0) return 0;
  return static_cast<int>(
      std::min(visibility.FirstVisible(length) / kPageTokens, int64_t{PagesFor(length)} - 1));
}

int KvGroup::FirstOfForm(int form, int64_t length) const {
  const int64_t first = std::min<int64_t>(length / kPageTokens - this->form(form + 1).window_pages,
                                          PagesFor(length) - 1);
  return std::max(
      {static_cast<int>(std::max<int64_t>(first, 0)), FirstPage(length), visibility.sink_pages});
}

int64_t KvGroup::BegunBelow(int form, int64_t length) const {
  return (length + Ahead(form) - 1) / kPageTokens - this->form(form).window_pages;
}

int KvGroup::TasksDue(int form, int page, int done, int64_t length, int64_t new_length) const {
  if (done == tasks) return 0;
  const int64_t until = ReadFrom(form, page);
  if (new_length > until) return tasks - done;
  const int64_t from = std::max(length, until - Ahead(form));
  if (new_length <= from) return 0;
  const int64_t steps = until - from;
  // Rounded up or down in turn, so that two forms do not both take their larger steps first.
  const int64_t up = form % 2 == 0 ? 0 : steps - 1;
  return static_cast<int>(((tasks - done) * (new_length - from) + up) / steps);
}

std::vector<uint64_t> FormBytes(const KvGroup& group) {
  std::vector<uint64_t> bytes;
  for (const KvGroup::Form& form : group.forms) bytes.push_back(form.bytes);
  return bytes;
}

KvLayout::KvLayout(const KvGeometry& geometry, const CachePolicy& policy) {
  CheckGeometry(geometry, policy);
  const int heads = geometry.kv_heads, dim = geometry.head_dim;
  for (int layer = 0; layer < geometry.num_layers; ++layer) {
    const auto l = static_cast<size_t>(layer);
    const int sliding_window = geometry.sliding_window[l];
    const std::vector<LayerForm> forms = FormsOf(policy, l, sliding_window);
    auto group = std::find_if(groups.begin(), groups.end(), [&](const KvGroup& g) {
      return ChangeTogether(g, sliding_window, forms);
    });
    if (group == groups.end()) {
      group = groups.insert(groups.end(), KvGroup{});
      group->visibility = VisibilityOf(policy, forms, sliding_window);
      for (const LayerForm& form : forms) group->forms.push_back({0, form.window_pages});
    }
    KvGroup::Layer entry{layer, {}};
    for (size_t i = 0; i < forms.size(); ++i) {
      entry.places.push_back(
          {MakePageLayout(dim, heads, forms[i].k, forms[i].v), group->forms[i].bytes});
      group->forms[i].bytes += entry.places.back().layout.bytes();
    }
    group->values_per_token += 2 * int64_t{heads} * dim;
    place_of_layer.emplace_back(static_cast<int>(group - groups.begin()),
                                static_cast<int>(group->layers.size()));
    group->layers.push_back(std::move(entry));
    group->tasks += group->tasks_of_layer();
  }
  for (KvGroup& group : groups) {
    for (KvGroup::Form& form : group.forms) form.bytes = RoundBlock(form.bytes);
  }
}

BlockCounts PeakBlocks(const KvGroup& group, int rollback, int64_t length, int64_t new_length) {
  const int64_t kept = std::max<int64_t>(0, length - rollback);
  const int pages = PagesFor(new_length), first_page = group.FirstPage(kept);
  if (group.num_forms() == 1) return {pages - first_page};
  const int sinks = group.visibility.sink_pages;
  BlockCounts counts = {std::max(0, std::min(pages, sinks) - first_page) +
                        std::max(0, pages - group.FirstOfForm(kOpenForm, kept))};
  for (int form = kSealedForm; form < group.num_forms(); ++form) {
    const bool last = form + 1 == group.num_forms();
    const int first = last ? std::max(first_page, sinks) : group.FirstOfForm(form, kept);
    counts.push_back(std::max<int64_t>(0, group.BegunBelow(form, new_length) - first));
  }
  return counts;
}

BlockCounts MostBlocks(const KvGroup& group, int rollback, int64_t tokens, int chunk) {
  BlockCounts most(group.forms.size());
  // What is held of each form only becomes more until it repeats with a period of one page.
  const int64_t first = std::max<int64_t>(1, tokens - 2 * kPageTokens);
  for (int64_t length = first; length <= tokens; ++length) {
    const BlockCounts counts =
        PeakBlocks(group, rollback, std::max<int64_t>(0, length - chunk), length);
    for (size_t form = 0; form < most.size(); ++form)
      most[form] = std::max(most[form], counts[form]);
  }
  return most;
}

}  // namespace tq
