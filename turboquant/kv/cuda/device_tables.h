// SPDX-License-Identifier: Apache-2.0
// What device kernels know of the sequences of one step: everything that changes from step to step
// lies in device memory, so that a captured graph reads each step's values. Plain data, passed by
// value.
//
// Page tables are the id arrays of KvLayerView, one for each form, not {id, kind} entries: which
// form of a page a query reads is a function of positions (page_forms.h), so a table changes only
// when a page is allocated, published or freed, and queries on both sides of a page boundary share
// it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "turboquant/kv/kv_view.h"

namespace tq::cuda {

// One per group of layers with equal windows. Arrays are indexed by slot; a slot is one sequence of
// the step, or idle.
struct StepTables {
  const uint32_t* open_pages = nullptr;      // [slots][page_stride] ids, or kNoPage
  const uint32_t* sealed_pages = nullptr;    // [slots][page_stride]; then those of aged forms
  const int32_t* first_positions = nullptr;  // [slots] position of the first new token (and query)
  const int32_t* tokens = nullptr;        // [slots] new tokens (and queries) of this step; 0: idle
  const int32_t* first_rows = nullptr;    // [slots] row of q, k, v and out of the first new token
  const int32_t* sealed_below = nullptr;  // [slots] Visibility::sealed_below; then
                                          // AgedPages::aged_below of each aged form; null: all 0
  int page_stride = 0;
  int slots = 0;
  int table_slots = 0;  // slots from an aged form's table to the next, of ids and of aged_below

  // Ids of a slot's pages in a form.
  constexpr const uint32_t* PagesOf(int form, int slot) const {
    const uint32_t* pages = form == kOpenForm ? open_pages : sealed_pages;
    const int tables = form == kOpenForm ? 0 : form - kSealedForm;
    return pages + (int64_t{tables} * table_slots + slot) * page_stride;
  }
};

// The pages of one layer: where they lie and what they are. `arena` is a device address.
struct LayerPages {
  std::byte* arena = nullptr;
  uint64_t open_layer_offset = 0;
  uint64_t sealed_layer_offset = 0;
  PageLayout open;
  PageLayout sealed;
  Visibility visibility;                      // sealed_below is read from StepTables
  std::array<AgedPages, kMaxAges> aged = {};  // ids and aged_below are read from StepTables
  int num_aged = 0;
};

}  // namespace tq::cuda
