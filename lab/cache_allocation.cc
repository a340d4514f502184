// SPDX-License-Identifier: Apache-2.0
#include "lab/cache_allocation.h"

#include <algorithm>
#include <numeric>

#include "turboquant/base/error.h"

namespace tq::lab {
namespace {

double Saved(const CacheOption& from, const CacheOption& to) {
  return (from.divergence - to.divergence) / (to.bytes - from.bytes);
}

// The options worth taking, cheapest first: each step up costs bytes, saves divergence, and saves
// less per byte than the step before it (the lower convex hull).
std::vector<size_t> Steps(const CacheSlot& slot) {
  std::vector<size_t> order(slot.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return slot[a].bytes != slot[b].bytes ? slot[a].bytes < slot[b].bytes
                                          : slot[a].divergence < slot[b].divergence;
  });
  std::vector<size_t> hull;
  for (const size_t i : order) {
    if (!hull.empty() && slot[i].divergence >= slot[hull.back()].divergence) continue;
    while (hull.size() >= 2 && Saved(slot[hull[hull.size() - 2]], slot[hull.back()]) <=
                                   Saved(slot[hull.back()], slot[i])) {
      hull.pop_back();
    }
    hull.push_back(i);
  }
  return hull;
}

}  // namespace

Allocation Allocate(std::span<const CacheSlot> slots, const AllocationLimits& limits) {
  std::vector<std::vector<size_t>> steps;
  std::vector<size_t> at(slots.size(), 0);
  Allocation result;
  for (const CacheSlot& slot : slots) {
    TQ_CHECK(!slot.empty());
    steps.push_back(Steps(slot));
    result.bytes += slot[steps.back()[0]].bytes;
    result.divergence += slot[steps.back()[0]].divergence;
  }
  while (result.divergence > limits.divergence) {
    size_t best = slots.size();
    double most = 0;
    for (size_t s = 0; s < slots.size(); ++s) {
      if (at[s] + 1 == steps[s].size()) continue;
      const CacheOption &from = slots[s][steps[s][at[s]]], &to = slots[s][steps[s][at[s] + 1]];
      if (result.bytes + to.bytes - from.bytes > limits.bytes) continue;
      if (Saved(from, to) > most) {
        most = Saved(from, to);
        best = s;
      }
    }
    if (best == slots.size()) break;
    const CacheOption &from = slots[best][steps[best][at[best]]],
                      &to = slots[best][steps[best][at[best] + 1]];
    result.bytes += to.bytes - from.bytes;
    result.divergence += to.divergence - from.divergence;
    ++at[best];
  }
  for (size_t s = 0; s < slots.size(); ++s) result.choice.push_back(steps[s][at[s]]);
  return result;
}

}  // namespace tq::lab
