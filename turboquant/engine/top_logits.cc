// SPDX-License-Identifier: Apache-2.0
#include "turboquant/engine/top_logits.h"

#include <algorithm>
#include <limits>

#include "turboquant/ops/largest.h"

namespace tq {
namespace {

constexpr float kLowest = -std::numeric_limits<float>::infinity();

template <typename Visit>  // visit(first id, block)
void ForEachBlock(std::span<const float> logits, const Visit& visit) {
  for (size_t i = 0; i < logits.size(); i += kLargestBlock)
    visit(i, logits.subspan(i, std::min(kLargestBlock, logits.size() - i)));
}

}  // namespace

TokenId LargestLogit(std::span<const float> logits) { return LargestIndex(logits); }

void LargestLogits(std::span<const float> logits, size_t count, std::vector<Candidate>& top) {
  top.clear();
  if (count == 0) return;
  ForEachBlock(logits, [&](size_t first, std::span<const float> block) {
    // The last of the best so far lies on top of the heap; ids grow, so that an equal one is later.
    if (top.size() == count && !(LargestValue(block) > top.front().logit)) return;
    for (size_t i = 0; i < block.size(); ++i) {
      const float least = top.size() == count ? top.front().logit : kLowest;
      if (!(block[i] > least)) continue;
      if (top.size() == count) {
        std::pop_heap(top.begin(), top.end(), Before);
        top.pop_back();
      }
      top.push_back({block[i], static_cast<TokenId>(first + i)});
      std::push_heap(top.begin(), top.end(), Before);
    }
  });
  std::sort_heap(top.begin(), top.end(), Before);
}

void AllLogits(std::span<const float> logits, std::vector<Candidate>& all) {
  all.clear();
  for (size_t i = 0; i < logits.size(); ++i)
    if (logits[i] > kLowest) all.push_back({logits[i], static_cast<TokenId>(i)});
}

}  // namespace tq
