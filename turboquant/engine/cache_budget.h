// SPDX-License-Identifier: Apache-2.0
// A cache for a budget of bytes: types that fall from turbo8 to turbo2_tcq by age.
#pragma once

#include <cstdint>

#include "turboquant/kv/kv_cache.h"

namespace tq {

// What the default types have been measured to cost, docs/quality.md: from the least to the most of
// its models.
inline constexpr double kLeastDefaultDivergence = 0.0009;
inline constexpr double kMostDefaultDivergence = 0.0028;

struct BudgetedCache {
  CachePolicy policy;     // k, v and at most one age; the rest as in the shape
  double divergence = 0;  // expected of a full context, in parts of what the default types cost
};

// The best cache whose full context fits: two neighbours of a ladder of types, the older tokens
// with the lower one, from an age that is as great as the bytes allow; or the lower one throughout,
// where sealing nearly everything twice would cost more. Neighbours, because each step down the
// ladder costs more divergence per byte than the one before. A function of the context and not of
// what is in the cache at a time: which codec a page has must depend on positions alone. Throws
// kOutOfMemory, saying what would fit, if the lowest does not.
BudgetedCache FitBudget(const KvGeometry& geometry, const CachePolicy& shape, int64_t context,
                        int chunk, uint64_t budget_bytes);

}  // namespace tq
