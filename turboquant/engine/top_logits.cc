// SPDX-License-Identifier: Apache-2.0
#include "turboquant/engine/top_logits.h"

#include <algorithm>
#include <limits>

namespace tq {
namespace {

constexpr float kLowest = -std::numeric_limits<float>::infinity();

// Nearly all blocks are passed over by their maximum alone, which the compiler takes with vectors.
constexpr size_t kBlock = 256;
constexpr size_t kLanes = 16;

float LargestOf(std::span<const float> block) {  // a comparison with NaN is false
  float lanes[kLanes];
  std::fill_n(lanes, kLanes, kLowest);
  size_t i = 0;
  for (; i + kLanes <= block.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const float x = block[i + lane];
      lanes[lane] = x > lanes[lane] ? x : lanes[lane];
    }
  }
  float largest = *std::max_element(lanes, lanes + kLanes);
  for (; i < block.size(); ++i) largest = block[i] > largest ? block[i] : largest;
  return largest;
}

template <typename Visit>  // visit(first id, block)
void ForEachBlock(std::span<const float> logits, const Visit& visit) {
  for (size_t i = 0; i < logits.size(); i += kBlock)
    visit(i, logits.subspan(i, std::min(kBlock, logits.size() - i)));
}

}  // namespace

TokenId LargestLogit(std::span<const float> logits) {
  float largest = kLowest;
  size_t where = logits.size();
  ForEachBlock(logits, [&](size_t first, std::span<const float> block) {
    const float here = LargestOf(block);
    if (!(here > largest)) return;
    largest = here;
    where = first;
  });
  if (where == logits.size()) return -1;
  while (logits[where] != largest) ++where;
  return static_cast<TokenId>(where);
}

void LargestLogits(std::span<const float> logits, size_t count, std::vector<Candidate>& top) {
  top.clear();
  if (count == 0) return;
  ForEachBlock(logits, [&](size_t first, std::span<const float> block) {
    // The last of the best so far lies on top of the heap; ids grow, so that an equal one is later.
    if (top.size() == count && !(LargestOf(block) > top.front().logit)) return;
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
