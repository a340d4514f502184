// SPDX-License-Identifier: Apache-2.0
#include "turboquant/engine/cache_budget.h"

#include <algorithm>
#include <array>
#include <utility>

#include "turboquant/base/error.h"
#include "turboquant/engine/memory_need.h"
#include "turboquant/kv/kv_layout.h"

namespace tq {
namespace {

struct Rung {
  Codec k, v;
  double divergence;  // measured, over that of the default types: docs/quality.md, "A budget"
};

using enum Codec;
constexpr std::array kLadder = {
    Rung{kTurbo8, kTurbo8, 0.07},      Rung{kTurbo8, kTurbo4Tcq, 0.14},
    Rung{kTurbo4Tcq, kTurbo4Tcq, 0.7}, Rung{kTurbo4Tcq, kTurbo3Tcq, 1},
    Rung{kTurbo3Tcq, kTurbo3Tcq, 2.4}, Rung{kTurbo3Tcq, kTurbo2Tcq, 4},
    Rung{kTurbo2Tcq, kTurbo2Tcq, 14},
};

// What a step down costs pages that have been below 8 bits before, over what it costs others: the
// noise of both codecs adds up (a trellis at 3 bits has 1.0 dB more behind 4 bits, one at 2 bits .9
// dB more behind 3), and divergence grows faster than noise (docs/recommend.md).
constexpr double kSealedAgain = 1.4;

double CostOfAgeing(const Rung& upper, const Rung& lower) {
  const Codec falls = upper.k != lower.k ? upper.k : upper.v;
  return (lower.divergence - upper.divergence) * (InfoOf(falls).bits == 8 ? 1 : kSealedAgain);
}

CachePolicy PolicyOf(const CachePolicy& shape, size_t layers, const Rung& rung) {
  CachePolicy policy = shape;
  policy.k.assign(layers, rung.k);
  policy.v.assign(layers, rung.v);
  policy.ages.clear();
  return policy;
}

// The part of what a full context holds that is older than that, window and sinks left aside.
double PartOlder(const KvGeometry& geometry, const CachePolicy& shape, int64_t context,
                 int64_t age) {
  double sum = 0;
  for (const int window : geometry.sliding_window) {
    const auto held =
        static_cast<double>(window == 0 ? context : std::min<int64_t>(window, context));
    const int64_t from = std::max(age, int64_t{shape.window_pages(window)} * kPageTokens);
    sum += std::max(0.0, 1 - static_cast<double>(from) / held);
  }
  return sum / static_cast<double>(geometry.sliding_window.size());
}

}  // namespace

BudgetedCache FitBudget(const KvGeometry& geometry, const CachePolicy& shape, int64_t context,
                        int chunk, uint64_t budget_bytes) {
  const auto layers = static_cast<size_t>(geometry.num_layers);
  chunk = std::max(chunk, KvCache::kReserveChunk);
  const auto fits = [&](const CachePolicy& policy) {
    return KvCache::BytesForContext(geometry, policy, context, chunk) <= budget_bytes;
  };
  size_t rung = 0;
  while (rung < kLadder.size() && !fits(PolicyOf(shape, layers, kLadder[rung]))) ++rung;
  if (rung == kLadder.size()) {
    CheckContextFits(geometry, PolicyOf(shape, layers, kLadder.back()), context, chunk,
                     {budget_bytes, "with the fewest bits that there are the cache budget is"});
  }
  TQ_CHECK(rung < kLadder.size());  // else it has thrown
  const Rung& lower = kLadder[rung];
  BudgetedCache best = {PolicyOf(shape, layers, lower), lower.divergence};
  if (rung == 0) return best;
  const Rung& upper = kLadder[rung - 1];
  int age = shape.window_pages();  // at which everything has the lower type
  for (int too_old = PagesFor(context); too_old - age > 1;) {
    const int middle = age + (too_old - age) / 2;
    CachePolicy policy = PolicyOf(shape, layers, upper);
    policy.ages = {{middle * kPageTokens, lower.k, lower.v}};
    if (!fits(policy)) {
      too_old = middle;
      continue;
    }
    age = middle;
    const double part = PartOlder(geometry, shape, context, int64_t{age} * kPageTokens);
    const double divergence = upper.divergence + part * CostOfAgeing(upper, lower);
    if (divergence < lower.divergence) best = {std::move(policy), divergence};
  }
  return best;
}

}  // namespace tq
