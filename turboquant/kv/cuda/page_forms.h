// SPDX-License-Identifier: Apache-2.0
// In which form a query reads a page, as kernels know it: KvLayerView::FormAt from what a step's
// tables and a launch's parameters hold.
#pragma once

#include "turboquant/kv/cuda/device_tables.h"

namespace tq::cuda {

// AgedPages::window_pages of a layer's aged forms.
struct AgeWindows {
  int count;  // 0: pages do not age
  int window_pages[kMaxAges];
};
constexpr AgeWindows WindowsOf(const LayerPages& pages) {
  AgeWindows windows = {pages.num_aged, {}};
  for (int i = 0; i < pages.num_aged; ++i)
    windows.window_pages[i] = pages.aged[static_cast<size_t>(i)].window_pages;
  return windows;
}

// Where the pages of one slot change form.
struct FormEnds {
  const Visibility& visibility;
  const AgeWindows& ages;
  const int32_t* lost_below;  // of the slot, by form from the open one on, `stride` apart; or null
  int stride;

  // Pages below it, sinks apart, are in `form` (not the open one) or a later one for the query at
  // `position`. No form's end lies behind that of an earlier one.
  constexpr int End(int form, int position) const {
    const int window =
        form == kSealedForm ? visibility.window_pages : ages.window_pages[form - kSealedForm - 1];
    const int end = position / kPageTokens - window;
    const int below = lost_below == nullptr ? 0 : lost_below[(form - kSealedForm) * stride];
    return end > below ? end : below;
  }
  constexpr int FormAt(int page, int position) const {
    if (!visibility.seals || page < visibility.sink_pages) return kOpenForm;
    int form = kOpenForm;
    while (form < kSealedForm + ages.count && page < End(form + 1, position)) ++form;
    return form;
  }
};

constexpr FormEnds EndsOf(const StepTables& tables, const Visibility& visibility,
                          const AgeWindows& ages, int slot) {
  return {visibility, ages, tables.sealed_below == nullptr ? nullptr : tables.sealed_below + slot,
          tables.table_slots};
}

}  // namespace tq::cuda
