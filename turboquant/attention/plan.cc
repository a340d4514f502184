// SPDX-License-Identifier: Apache-2.0
#include "turboquant/attention/plan.h"

#include <algorithm>

#include "turboquant/attention/cpu/attention_kernels.h"
#include "turboquant/attention/visible_range.h"

namespace tq {
namespace {

int GroupOf(const AttentionArgs& args) { return args.q_heads / args.kv.open.kv_heads; }
int ColumnsOf(const AttentionArgs& args) { return args.tokens * GroupOf(args); }

PageRange DecodePages(const AttentionArgs& args) {
  PageRange pages = PagesOf(args);
  if (args.fresh_k != nullptr) ++pages.last;
  return pages;
}

// Cost of a page, in units of one column's work: unpacking is shared by the columns.
int64_t PageCost(const AttentionArgs& args) { return 3 + ColumnsOf(args); }

// Keys that an item's queries read, to order items by.
int64_t CostOf(const AttentionArgs& args, const PrefillItem& item) {
  const int64_t last = args.first_position + item.last_token;
  const int64_t first = args.kv.visibility.FirstVisible(args.first_position + item.first_token);
  return (last - first) * item.rows();
}

}  // namespace

bool IsDecode(const AttentionArgs& args) { return ColumnsOf(args) <= kMaxColumns; }

void PlanDecode(std::span<const AttentionArgs> calls, int threads, DecodePlan& plan) {
  plan.segments.clear();
  plan.piece_begin.assign(1, 0);
  plan.partial_columns = 0;
  int64_t cost = 0;
  int64_t units = 0;
  for (const AttentionArgs& args : calls) {
    if (!IsDecode(args)) continue;
    const PageRange pages = DecodePages(args);
    const int64_t n = static_cast<int64_t>(pages.last - pages.first) * args.kv.open.kv_heads;
    units += n;
    cost += n * PageCost(args);
  }
  // Several pieces per thread even out what threads cannot know: other processes, cold pages.
  const int64_t wanted = units >= 16 * threads ? 4 * threads : threads;
  const int64_t pieces = std::clamp<int64_t>(wanted, 1, std::max<int64_t>(units, 1));

  int64_t done = 0;  // cost before the next page
  for (int call = 0; call < static_cast<int>(calls.size()); ++call) {
    const AttentionArgs& args = calls[static_cast<size_t>(call)];
    if (!IsDecode(args)) continue;
    const PageRange pages = DecodePages(args);
    for (int head = 0; head < args.kv.open.kv_heads; ++head) {
      int page = pages.first;
      while (page < pages.last) {
        // The pieces' ends are at cost * i / pieces, rounded to pages.
        const auto piece = static_cast<int64_t>(plan.piece_begin.size());
        const int64_t left = cost * piece / pieces - done;
        const int64_t fits = (left + PageCost(args) / 2) / PageCost(args);
        if (fits <= 0) {
          plan.piece_begin.push_back(static_cast<int>(plan.segments.size()));
          continue;
        }
        const int last = static_cast<int>(std::min<int64_t>(pages.last, page + fits));
        plan.segments.push_back({call, head, page, last, plan.partial_columns});
        plan.partial_columns += ColumnsOf(args);
        done += (last - page) * PageCost(args);
        page = last;
      }
    }
  }
  plan.piece_begin.push_back(static_cast<int>(plan.segments.size()));
}

void PlanPrefill(std::span<const AttentionArgs> calls, int threads,
                 std::vector<PrefillItem>& items) {
  int heads_per_item = kMaxPrefillRows / kPageTokens;
  // Fewer heads per item if there would be too little to share out.
  for (;; heads_per_item /= 2) {
    items.clear();
    for (int call = 0; call < static_cast<int>(calls.size()); ++call) {
      const AttentionArgs& args = calls[static_cast<size_t>(call)];
      if (IsDecode(args)) continue;
      for (int kv_head = 0; kv_head < args.kv.open.kv_heads; ++kv_head) {
        for (int t = 0; t < args.tokens;) {
          const auto in_block = static_cast<int>((args.first_position + t) % kPageTokens);
          const int last = std::min(args.tokens, t + kPageTokens - in_block);
          for (int r = 0; r < GroupOf(args); r += heads_per_item) {
            items.push_back(
                {call, kv_head, t, last, r, std::min(GroupOf(args), r + heads_per_item)});
          }
          t = last;
        }
      }
    }
    if (heads_per_item == 1 || static_cast<int>(items.size()) >= 3 * threads) break;
  }
  std::stable_sort(items.begin(), items.end(), [&](const PrefillItem& a, const PrefillItem& b) {
    return CostOf(calls[static_cast<size_t>(a.call)], a) >
           CostOf(calls[static_cast<size_t>(b.call)], b);
  });
}

}  // namespace tq
