// SPDX-License-Identifier: Apache-2.0
// What a kernel may know of a cache: plain data, no ownership. One view = one sequence at one
// layer.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "turboquant/codec/page_layout.h"

namespace tq {

inline constexpr uint32_t kNoPage = 0xffffffffu;
inline constexpr uint64_t kPageIdUnit = 256;  // bytes: page ids count these from the arena's start

// Which form of a page a query sees: a pure function of positions (DESIGN, section 5). Monotone:
// the pages that a query reads sealed are one range behind the sinks, and never fewer at a later
// position.
struct Visibility {
  int window_pages = 1;    // full pages behind the query's own that it reads in open form
  int sink_pages = 1;      // leading pages that stay in open form; 0 for sliding-window layers
  int sliding_window = 0;  // tokens a query may look back, itself included; 0 = all
  bool seals = true;       // false if the open form is the final one (comparison types, turbo8)
  int sealed_below =
      0;  // pages below it have lost their open form: it matters only to queries that recompute the
          // recent window after a truncation deeper than the rollback range

  // True if the query at `position` reads page `page` in its sealed form.
  constexpr bool Sealed(int page, int64_t position) const {
    return seals && page >= sink_pages &&
           (page <= position / kPageTokens - 1 - window_pages || page < sealed_below);
  }
  // First position that the query at `position` may see.
  constexpr int64_t FirstVisible(int64_t position) const {
    return sliding_window == 0 || position < sliding_window ? 0 : position - sliding_window + 1;
  }
};

// The forms that a page goes through, by number: 0 open, 1 sealed, 2 and more aged: sealed again,
// each from the one before, at fewer bits.
inline constexpr int kMaxAges = 4;
inline constexpr int kMaxForms = 2 + kMaxAges;
inline constexpr int kOpenForm = 0;
inline constexpr int kSealedForm = 1;

// One aged form. Which query reads it is the same function of positions as for the sealed one, with
// the age for a window: queries see older pages in later forms, at any position.
struct AgedPages {
  int window_pages = 0;             // ceil(age / 128)
  int aged_below = 0;               // pages below it have lost the form before this one
  const uint32_t* pages = nullptr;  // [num_pages] page id, or kNoPage
  uint64_t layer_offset = 0;
  PageLayout layout = {};
};

struct KvLayerView {
  std::byte* arena = nullptr;
  const uint32_t* open_pages =
      nullptr;  // [num_pages] page id of the 8-bit (or row) form, or kNoPage
  const uint32_t* sealed_pages = nullptr;  // [num_pages] page id of the sealed form, or kNoPage
  int num_pages = 0;
  int64_t length = 0;              // tokens in the cache, those of this step included
  uint64_t open_layer_offset = 0;  // this layer's bytes within an open page block
  uint64_t sealed_layer_offset = 0;
  PageLayout open;
  PageLayout sealed;
  Visibility visibility;
  std::array<AgedPages, kMaxAges> aged;
  int num_aged = 0;

  // The form in which the query at `position` reads page `page`.
  int FormAt(int page, int64_t position) const {
    if (!visibility.Sealed(page, position)) return kOpenForm;
    int n = 0;
    for (; n < num_aged; ++n) {
      const AgedPages& form = aged[static_cast<size_t>(n)];
      if (page > position / kPageTokens - 1 - form.window_pages && page >= form.aged_below) break;
    }
    return kSealedForm + n;
  }
  const PageLayout& Layout(int form) const {
    return form == kOpenForm ? open : form == kSealedForm ? sealed : Aged(form).layout;
  }
  uint32_t PageId(int form, int page) const {
    return (form == kOpenForm     ? open_pages
            : form == kSealedForm ? sealed_pages
                                  : Aged(form).pages)[page];
  }
  std::byte* Head(int form, int page, int head) const {
    const uint64_t offset = form == kOpenForm     ? open_layer_offset
                            : form == kSealedForm ? sealed_layer_offset
                                                  : Aged(form).layer_offset;
    return arena + PageId(form, page) * kPageIdUnit + offset +
           static_cast<uint64_t>(head) * Layout(form).head_bytes;
  }
  const AgedPages& Aged(int form) const { return aged[static_cast<size_t>(form - 2)]; }

  std::byte* OpenHead(int page, int head) const {
    return arena + open_pages[page] * kPageIdUnit + open_layer_offset +
           static_cast<uint64_t>(head) * open.head_bytes;
  }
  std::byte* SealedHead(int page, int head) const {
    return arena + sealed_pages[page] * kPageIdUnit + sealed_layer_offset +
           static_cast<uint64_t>(head) * sealed.head_bytes;
  }
};

}  // namespace tq
