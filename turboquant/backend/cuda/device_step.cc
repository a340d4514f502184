// SPDX-License-Identifier: Apache-2.0
#include "turboquant/backend/cuda/device_step.h"

#include <algorithm>
#include <cstring>

#include "turboquant/base/cuda/cuda_error.h"

namespace tq::cuda {
namespace {

int GrowTo(int capacity, size_t wanted) {
  while (static_cast<size_t>(capacity) < wanted) capacity *= 2;
  return capacity;
}

}  // namespace

bool DeviceStep::Begin(const StepInputs& inputs) {
  // One layer of each group, and the longest table.
  std::vector<int> layers;
  groups_.clear();
  const int num_layers = inputs.cache.geometry().num_layers;
  int pages = 0, forms = 2;
  for (int layer = 0; layer < num_layers; ++layer) {
    const KvLayerView view = inputs.cache.View(inputs.spans[0].sequence, layer);
    if (std::ranges::find(groups_, view.open_pages, [](const auto& g) { return g[0]; }) !=
        groups_.end())
      continue;
    std::vector<const uint32_t*>& tables = groups_.emplace_back();
    for (const AppendPlan::Span& span : inputs.spans)
      tables.push_back(inputs.cache.View(span.sequence, layer).open_pages);
    layers.push_back(layer);
    forms = std::max(forms, kSealedForm + 1 + view.num_aged);
  }
  for (const AppendPlan::Span& span : inputs.spans)
    pages = std::max(pages, inputs.cache.View(span.sequence, layers[0]).num_pages);
  slots_ = static_cast<int>(inputs.spans.size());

  const Capacity before = capacity_;
  capacity_.tokens = GrowTo(capacity_.tokens, inputs.tokens.size());
  capacity_.slots = GrowTo(capacity_.slots, inputs.spans.size());
  capacity_.pages = GrowTo(capacity_.pages, static_cast<size_t>(pages));
  capacity_.groups = GrowTo(capacity_.groups, groups_.size());
  capacity_.forms = std::max(capacity_.forms, forms);
  const auto bytes = static_cast<size_t>(words()) * sizeof(uint32_t);
  copied_.Synchronize();
  const bool grew = device_.EnsureSize(bytes, "the page tables of a step");
  pinned_.EnsureSize(bytes);

  tokens_.assign(inputs.tokens.begin(), inputs.tokens.end());
  positions_.assign(inputs.positions.begin(), inputs.positions.end());
  auto* host = pinned_.as<uint32_t>();
  std::memcpy(host, tokens_.data(), tokens_.size() * sizeof(int32_t));
  std::memcpy(host + capacity_.tokens, positions_.data(), positions_.size() * sizeof(int32_t));
  for (size_t g = 0; g < groups_.size(); ++g) {
    FillGroup(inputs, layers[g],
              host + 2 * capacity_.tokens + static_cast<int64_t>(g) * group_words());
  }
  Copy(0, words());
  return grew || before != capacity_;
}

void DeviceStep::FillGroup(const StepInputs& inputs, int layer, uint32_t* words) const {
  const int slots = capacity_.slots, pages = capacity_.pages;
  const int64_t form_words = int64_t{slots} * pages;
  auto* first_positions = reinterpret_cast<int32_t*>(words + capacity_.forms * form_words);
  int32_t* tokens = first_positions + slots;
  int32_t* short_tokens = tokens + slots;
  int32_t* first_rows = short_tokens + slots;
  int32_t* sealed_below = first_rows + slots;
  int row = 0;
  for (int slot = 0; slot < slots_; ++slot) {
    const AppendPlan::Span& span = inputs.spans[static_cast<size_t>(slot)];
    const KvLayerView view = inputs.cache.View(span.sequence, layer);
    std::copy_n(view.open_pages, view.num_pages, words + int64_t{slot} * pages);
    std::copy_n(view.sealed_pages, view.num_pages, words + form_words + int64_t{slot} * pages);
    for (int form = kSealedForm + 1; form <= kSealedForm + view.num_aged; ++form) {
      const AgedPages& aged = view.Aged(form);
      std::copy_n(aged.pages, view.num_pages, words + form * form_words + int64_t{slot} * pages);
      sealed_below[(form - kSealedForm) * slots + slot] = aged.aged_below;
    }
    first_positions[slot] = static_cast<int32_t>(span.first_position);
    tokens[slot] = span.tokens;
    short_tokens[slot] = span.tokens <= kMostShort ? span.tokens : 0;
    first_rows[slot] = row;
    sealed_below[slot] = view.visibility.sealed_below;
    row += span.tokens;
  }
}

DeviceStep::Place DeviceStep::PlaceOf(const KvLayerView& view) const {
  for (size_t g = 0; g < groups_.size(); ++g) {
    const auto slot = std::ranges::find(groups_[g], view.open_pages);
    if (slot != groups_[g].end())
      return {static_cast<int>(g), static_cast<int>(slot - groups_[g].begin())};
  }
  TQ_CHECK(false);  // the call belongs to no step that has begun
  return {};
}

StepTables DeviceStep::TablesOf(const KvLayerView& view, bool only_short) const {
  const int slots = capacity_.slots, pages = capacity_.pages;
  const uint32_t* words =
      device_.as<uint32_t>() + 2 * capacity_.tokens + PlaceOf(view).group * group_words();
  StepTables tables;
  tables.open_pages = words;
  tables.sealed_pages = words + int64_t{slots} * pages;
  tables.first_positions =
      reinterpret_cast<const int32_t*>(words + capacity_.forms * int64_t{slots} * pages);
  tables.tokens = tables.first_positions + (only_short ? 2 : 1) * slots;
  tables.first_rows = tables.first_positions + 3 * slots;
  tables.sealed_below = tables.first_positions + 4 * slots;
  tables.page_stride = pages;
  tables.slots = slots_;
  tables.table_slots = slots;
  return tables;
}

bool DeviceStep::Set(std::span<const int32_t> values, std::vector<int32_t>& mirror, bool second) {
  if (std::ranges::equal(values, mirror)) return false;
  groups_.clear();  // these are not the step's: its tables go with it
  tokens_.clear();
  positions_.clear();
  capacity_.tokens = GrowTo(capacity_.tokens, values.size());
  const auto bytes = static_cast<size_t>(words()) * sizeof(uint32_t);
  copied_.Synchronize();
  device_.EnsureSize(bytes, "tokens");
  pinned_.EnsureSize(bytes);
  mirror.assign(values.begin(), values.end());
  const int64_t first = second ? capacity_.tokens : 0;
  std::ranges::copy(values, pinned_.as<int32_t>() + first);
  Copy(first, static_cast<int64_t>(values.size()));
  return true;
}

void DeviceStep::Copy(int64_t first_word, int64_t count) {
  const auto bytes = static_cast<size_t>(count) * sizeof(uint32_t);
  Check(cudaMemcpyAsync(device_.as<uint32_t>() + first_word, pinned_.as<uint32_t>() + first_word,
                        bytes, cudaMemcpyHostToDevice, stream_),
        "copying the inputs of a step");
  copied_.Record(stream_);
}

}  // namespace tq::cuda
