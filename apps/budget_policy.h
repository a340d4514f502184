// SPDX-License-Identifier: Apache-2.0
// `--cache-budget`: the policy that makes a full context fit.
#pragma once

#include <string>

#include "apps/common_flags.h"
#include "turboquant/engine/cache_budget.h"

namespace tq::app {

// Says on stderr what was chosen, as flags to paste, and what it is expected to cost. `shape` gives
// what is no type; context 0: the model's. Throws as FitBudget does.
CachePolicy BudgetPolicy(const Engine& engine, const CacheFlags& flags, const CachePolicy& shape,
                         int64_t context, int chunk);

// "1.40 x the default types', 0.0013 to 0.0039".
std::string ExpectedDivergence(const BudgetedCache& cache);

}  // namespace tq::app
