// SPDX-License-Identifier: Apache-2.0
// The likeliest next token, and texts fed in passes: what greedy replies and needles share.
#pragma once

#include <functional>
#include <span>

#include "lab/logits_source.h"

namespace tq::lab {

// Of the last row that it saw.
struct LikeliestSink : LogitsSink {
  TokenId token = -1;
  void Rows(int first_span, int first_token, MatrixView<const float> logits) override;
};

// Feeds `text` in passes of at most `batch` tokens; the likeliest token after the last one reaches
// `after` (null: nobody asks). on_fed: after each pass; may be empty.
void FeedText(LogitsSource& source, std::span<const TokenId> text, int batch, LikeliestSink* after,
              const std::function<void(int64_t tokens)>& on_fed);

}  // namespace tq::lab
