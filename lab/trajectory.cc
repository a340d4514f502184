// SPDX-License-Identifier: Apache-2.0
#include "lab/trajectory.h"

#include <algorithm>

#include "lab/likeliest.h"
#include "turboquant/base/error.h"

namespace tq::lab {

std::vector<TokenId> GreedyTokens(LogitsSource& source, std::span<const TokenId> prompt,
                                  const TrajectoryOptions& options) {
  LikeliestSink likeliest;
  source.Clear();
  FeedText(source, prompt, options.batch, &likeliest, options.on_fed);
  std::vector<TokenId> tokens = {likeliest.token};
  while (static_cast<int>(tokens.size()) < options.tokens) {
    FeedText(source, {&tokens.back(), 1}, 1, &likeliest, options.on_fed);
    tokens.push_back(likeliest.token);
  }
  return tokens;
}

TrajectoryPair CompareTrajectories(std::span<const TokenId> a, std::span<const TokenId> b) {
  TQ_CHECK(a.size() == b.size() && !a.empty());
  const auto first = std::mismatch(a.begin(), a.end(), b.begin()).first;
  int64_t equal = 0;
  for (size_t i = 0; i < a.size(); ++i) equal += a[i] == b[i];
  return {static_cast<int>(first - a.begin()),
          static_cast<double>(equal) / static_cast<double>(a.size()), first == a.end()};
}

TrajectorySummary SummariseTrajectories(std::span<const TrajectoryPair> pairs) {
  TrajectorySummary summary;
  summary.prompts = static_cast<int64_t>(pairs.size());
  if (pairs.empty()) return summary;
  std::vector<float> first, agreement;
  for (const TrajectoryPair& pair : pairs) {
    summary.same += pair.same;
    first.push_back(static_cast<float>(pair.first_difference));
    agreement.push_back(static_cast<float>(pair.agreement));
  }
  summary.first_difference = Mean(first);
  summary.median_first_difference = Percentile(Sorted(first), 0.5);
  summary.agreement = Mean(agreement);
  return summary;
}

}  // namespace tq::lab
