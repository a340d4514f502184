// SPDX-License-Identifier: Apache-2.0
// The merge loop that BPE and SentencePiece share: a chain of symbols in which the best pair of
// neighbours is joined again and again, the leftmost of equals first. O(n log n).
#pragma once

#include <cstdint>
#include <optional>
#include <queue>
#include <vector>

namespace tq {

// A pair that may be joined: lower cost goes first; `merged` is the symbol it becomes.
template <typename Cost>
struct Merge {
  Cost cost;
  int32_t merged;
};

// `find(left, right)` gives the std::optional<Merge<Cost>> of two symbols.
template <typename Cost, typename FindMerge>
void MergeSymbols(std::vector<int32_t>& symbols, const FindMerge& find) {
  struct Link {
    int32_t symbol;
    int32_t previous;
    int32_t next;
  };
  struct Candidate {
    Cost cost;
    int32_t left, right;                // places in the chain
    int32_t left_symbol, right_symbol;  // as they were: if they changed, the candidate is void
    int32_t merged;
    bool operator<(const Candidate& other) const {  // the top of the queue is the greatest
      return cost != other.cost ? cost > other.cost : left > other.left;
    }
  };
  constexpr int32_t kGone = -1;

  const auto n = static_cast<int32_t>(symbols.size());
  std::vector<Link> chain(symbols.size());
  for (int32_t i = 0; i < n; ++i) {
    chain[static_cast<size_t>(i)] = {symbols[static_cast<size_t>(i)], i - 1,
                                     i + 1 < n ? i + 1 : -1};
  }
  std::priority_queue<Candidate> queue;
  const auto offer = [&](int32_t left, int32_t right) {
    if (left < 0 || right < 0) return;
    const int32_t a = chain[static_cast<size_t>(left)].symbol;
    const int32_t b = chain[static_cast<size_t>(right)].symbol;
    if (const std::optional<Merge<Cost>> merge = find(a, b)) {
      queue.push({merge->cost, left, right, a, b, merge->merged});
    }
  };
  for (int32_t i = 1; i < n; ++i) offer(i - 1, i);
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    Link& left = chain[static_cast<size_t>(best.left)];
    Link& right = chain[static_cast<size_t>(best.right)];
    if (left.symbol != best.left_symbol || right.symbol != best.right_symbol ||
        left.next != best.right) {
      continue;
    }
    left.symbol = best.merged;
    left.next = right.next;
    right.symbol = kGone;
    if (left.next >= 0) chain[static_cast<size_t>(left.next)].previous = best.left;
    offer(left.previous, best.left);
    offer(best.left, left.next);
  }
  symbols.clear();
  for (int32_t i = n > 0 ? 0 : -1; i >= 0; i = chain[static_cast<size_t>(i)].next) {
    symbols.push_back(chain[static_cast<size_t>(i)].symbol);
  }
}

}  // namespace tq
