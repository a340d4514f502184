// SPDX-License-Identifier: Apache-2.0
#include "apps/budget_policy.h"

#include <fmt/format.h>

#include "apps/progress.h"

namespace tq::app {

CachePolicy BudgetPolicy(const Engine& engine, const CacheFlags& flags, const CachePolicy& shape,
                         int64_t context, int chunk) {
  if (context <= 0) context = engine.spec().context;
  const BudgetedCache cache =
      FitBudget(engine.spec().kv_geometry(), shape, context, chunk, flags.budget);
  const CachePolicy& policy = cache.policy;
  fmt::print(stderr, "budget   {} for {} tokens: -ctk {} -ctv {}{}{}\n",
             FormatBytes(static_cast<double>(flags.budget)), context, CodecListText(policy.k),
             CodecListText(policy.v), policy.ages.empty() ? "" : " --cache-age ",
             AgeStepsText(policy.ages));
  fmt::print(stderr, "         expected KLD when it is full: {} (docs/quality.md)\n",
             ExpectedDivergence(cache));
  return policy;
}

std::string ExpectedDivergence(const BudgetedCache& cache) {
  return fmt::format("{:.2f} x the default types', {:.4f} to {:.4f}", cache.divergence,
                     cache.divergence * kLeastDefaultDivergence,
                     cache.divergence * kMostDefaultDivergence);
}

}  // namespace tq::app
