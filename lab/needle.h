// SPDX-License-Identifier: Apache-2.0
// Whether a model finds needles again, and how sure it is of them: the second tells caches apart
// where the first is all or nothing.
#pragma once

#include <functional>
#include <vector>

#include "lab/logits_source.h"
#include "lab/needle_prompt.h"
#include "lab/statistics.h"

namespace tq::lab {

struct NeedleScore {
  int depth = 0;
  // Of the value's tokens, each after the right ones before it: ln p of all of them, and the worst
  // place among the likeliest (1: all of them are the likeliest).
  double log_prob = 0;
  int rank = 0;
  // Greedy decoding gives the value. For one value that is rank 1; of several, it is among what is
  // generated, in any order.
  bool found = false;
};

struct NeedleOptions {
  int batch = 512;                             // tokens of one forward pass
  std::function<void(int64_t tokens)> on_fed;  // after each pass; may throw kCancelled
};

// Of every answer, in the order of questions and answers.
std::vector<NeedleScore> AskNeedles(LogitsSource& source, const NeedlePrompt& prompt,
                                    const Tokenizer& tokenizer, const NeedleOptions& options);

// Scores of one cache in one cell of a table.
struct NeedleSummary {
  int64_t found = 0, asked = 0;
  Estimate log_prob;
  double median_rank = 0;
  Share share() const { return WilsonShare(found, asked); }
};
NeedleSummary SummariseNeedles(std::span<const NeedleScore> scores);

// How much more a finds, and is surer, than b, which was asked the same. Errors are over blocks of
// `block` neighbours: what was asked of one text.
struct NeedleDifference {
  Estimate share, log_prob;
};
NeedleDifference CompareNeedles(std::span<const NeedleScore> a, std::span<const NeedleScore> b,
                                int block);

}  // namespace tq::lab
