// SPDX-License-Identifier: Apache-2.0
// Which pages, in which form, and which of their tokens a query reads: attention's only reading of
// Visibility, shared by the reference and the product.
#pragma once

#include <algorithm>
#include <cstdint>

#include "turboquant/attention/attention.h"

namespace tq {

inline constexpr int kNoForm = -1;  // a page of which a query sees nothing

struct TokenRange {
  int first = 0;  // within the page
  int last = 0;   // one past
  bool empty() const { return first >= last; }
};

// Positions below this are read from pages; from here on, if at all, from fresh_k and fresh_v.
inline int64_t EndOfPages(const AttentionArgs& args) {
  return args.fresh_k != nullptr ? args.first_position : args.first_position + args.tokens;
}

// The tokens of positions [begin, begin + 128) that query t sees there, `end` bounding what exists.
inline TokenRange VisibleTokens(const AttentionArgs& args, int t, int64_t begin, int64_t end) {
  const int64_t position = args.first_position + t;
  const int64_t first = std::max(args.kv.visibility.FirstVisible(position), begin);
  const int64_t last = std::min({position + 1, end, begin + kPageTokens});
  if (first >= last) return {};
  return {static_cast<int>(first - begin), static_cast<int>(last - begin)};
}

inline TokenRange VisibleInPage(const AttentionArgs& args, int t, int page) {
  return VisibleTokens(args, t, static_cast<int64_t>(page) * kPageTokens, EndOfPages(args));
}

inline int FormOf(const AttentionArgs& args, int t, int page) {
  if (VisibleInPage(args, t, page).empty()) return kNoForm;
  return args.kv.FormAt(page, args.first_position + t);
}

// Pages [first, last) that any query of the call reads.
struct PageRange {
  int first = 0;
  int last = 0;
};
inline PageRange PagesOf(const AttentionArgs& args) {
  const int64_t end = EndOfPages(args);
  const int64_t begin = args.kv.visibility.FirstVisible(args.first_position);
  if (begin >= end) return {};
  return {static_cast<int>(begin / kPageTokens), static_cast<int>((end - 1) / kPageTokens + 1)};
}

}  // namespace tq
