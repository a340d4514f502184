// SPDX-License-Identifier: Apache-2.0
// Where the logits of a text come from: a session (session_logits.h), or made-up ones in tests. And
// the windows that are scored.
#pragma once

#include <span>
#include <vector>

#include "turboquant/model/step_plan.h"
#include "turboquant/text/tokenizer.h"

namespace tq::lab {

class LogitsSource {
 public:
  virtual ~LogitsSource() = default;
  virtual int vocabulary() const = 0;
  virtual void Clear() = 0;
  // Appends `tokens`; the logits of those at [begin, end) go to `sink` in order (span 0,
  // first_token as in `tokens`).
  virtual void Feed(std::span<const TokenId> tokens, int begin, int end, LogitsSink& sink) = 0;
  // The same, but the tokens are forgotten again: a question that the next one knows nothing of.
  virtual void FeedAside(std::span<const TokenId> tokens, int begin, int end, LogitsSink& sink) = 0;
};

// A text cut into windows of `context` tokens as llama-perplexity cuts it: each is evaluated from
// an empty cache and scored at positions [context / 2, context - 1), each of which predicts the
// next token.
struct TextWindows {
  std::vector<TokenId> tokens;  // [count * context], as tokenised
  int context = 0;
  int count = 0;
  TokenId bos = -1;  // put in place of the first token of each window; -1: not wanted

  int first_scored() const { return context / 2; }
  int scored() const { return context - 1 - context / 2; }
  std::vector<TokenId> Input(int window) const;  // [context]
  TokenId Target(int window, int position) const {
    return tokens[static_cast<size_t>(window) * static_cast<size_t>(context) +
                  static_cast<size_t>(position) + 1];
  }
};

// max_windows <= 0: all. Throws kInvalidArgument if the text is shorter than `min_windows` windows.
TextWindows MakeWindows(std::vector<TokenId> tokens, const SpecialTokens& special, int context,
                        int max_windows, int min_windows);

// Feeds tokens [from, to) of a window's input; the scored ones among them reach the sink as
// positions of the window.
class PositionSink {
 public:
  virtual ~PositionSink() = default;
  virtual void Rows(int first_position, MatrixView<const float> logits) = 0;
};
void FeedWindow(LogitsSource& source, const TextWindows& windows, std::span<const TokenId> input,
                int from, int to, PositionSink& sink);

}  // namespace tq::lab
