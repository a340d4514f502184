// SPDX-License-Identifier: Apache-2.0
// Greedy continuations: where that of one cache leaves that of another, and how much they have in
// common afterwards.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "lab/logits_source.h"
#include "lab/statistics.h"

namespace tq::lab {

struct TrajectoryOptions {
  int tokens = 64;                             // to generate
  int batch = 512;                             // tokens of one pass over the prompt
  std::function<void(int64_t tokens)> on_fed;  // after each pass; may throw kCancelled
};

// The likeliest tokens after `prompt`, from an empty cache; an end of the text is no end here.
std::vector<TokenId> GreedyTokens(LogitsSource& source, std::span<const TokenId> prompt,
                                  const TrajectoryOptions& options);

// Of as many tokens on both sides.
struct TrajectoryPair {
  int first_difference = 0;  // tokens before it; all of them if there is none
  double agreement = 0;      // part of all tokens that is the same in the same place
  bool same = false;
};
TrajectoryPair CompareTrajectories(std::span<const TokenId> a, std::span<const TokenId> b);

struct TrajectorySummary {
  int64_t prompts = 0, same = 0;
  Estimate first_difference;
  double median_first_difference = 0;
  Estimate agreement;
  Share share_same() const { return WilsonShare(same, prompts); }
};
TrajectorySummary SummariseTrajectories(std::span<const TrajectoryPair> pairs);

}  // namespace tq::lab
