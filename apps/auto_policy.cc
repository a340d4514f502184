// SPDX-License-Identifier: Apache-2.0
#include "apps/auto_policy.h"

#include <fmt/format.h>

#include "apps/fetch_model/model_table.h"
#include "turboquant/engine/recommendation_file.h"

namespace tq::app {
namespace {

// What a flag asks for must be what was measured; a flag that was left alone asks for nothing.
void CheckShape(const CacheFlags& flags, const CachePolicy& stored) {
  const CacheFlags untouched;
  const auto check = [](const char* flag, int given, int unasked, int have) {
    if (given == unasked || given == have) return;
    Throw(ErrorCode::kInvalidArgument,
          "{} asks for {} tokens, but the recommendation was made with {}: leave the flag away, or "
          "give it to `turboquant recommend` too",
          flag, given, have);
  };
  const auto pages = [](int tokens) { return (tokens + kPageTokens - 1) / kPageTokens; };
  check("--cache-window", pages(flags.window) * kPageTokens, untouched.window,
        stored.window_pages() * kPageTokens);
  check("--cache-sinks", pages(flags.sinks) * kPageTokens, untouched.sinks,
        stored.sink_pages * kPageTokens);
  if (flags.no_centring && stored.centring) {
    Throw(ErrorCode::kInvalidArgument,
          "--no-centring: the recommendation was made with centring; leave the flag away");
  }
}

}  // namespace

std::filesystem::path RecommendationFolder() { return DefaultModelFolder() / "recommendations"; }

CachePolicy AutomaticPolicy(const Engine& engine, const CacheFlags& flags, int64_t context) {
  if (context <= 0) context = engine.spec().context;
  const std::optional<Recommendation> found =
      FindRecommendation(RecommendationFolder(), engine.model_id(), context);
  if (!found) {
    Throw(
        ErrorCode::kNotFound,
        "--cache auto: nothing was recommended yet for this model and a context of {} tokens; run "
        "`turboquant recommend -m MODEL -c {}` once (it measures the model, some minutes)",
        context, context);
  }
  if (static_cast<int>(found->policy.k.size()) != engine.spec().num_layers)
    Throw(ErrorCode::kCorruptFile, "--cache auto: the recommendation is for {} layers, not {}",
          found->policy.k.size(), engine.spec().num_layers);
  CheckShape(flags, found->policy);
  fmt::print(stderr,
             "auto     recommended for contexts up to {}: KLD {:.5f} expected, at most {:.5f} "
             "(docs/recommend.md)\n",
             found->context, found->divergence, found->upper);
  return found->policy;
}

}  // namespace tq::app
