// SPDX-License-Identifier: Apache-2.0
#include "lab/logits_source.h"

#include <algorithm>

#include "turboquant/base/error.h"

namespace tq::lab {

std::vector<TokenId> TextWindows::Input(int window) const {
  const auto begin = tokens.begin() + static_cast<ptrdiff_t>(window) * context;
  std::vector<TokenId> input(begin, begin + context);
  if (bos >= 0) input[0] = bos;
  return input;
}

TextWindows MakeWindows(std::vector<TokenId> tokens, const SpecialTokens& special, int context,
                        int max_windows, int min_windows) {
  if (context < 4)
    Throw(ErrorCode::kInvalidArgument,
          "a context of {} tokens is too short to score; give at least 4", context);
  const auto available = static_cast<int64_t>(tokens.size()) / context;
  if (available < min_windows) {
    Throw(ErrorCode::kInvalidArgument,
          "the text has {} tokens; {} are needed for a context of {}: give a longer text or a "
          "smaller -c",
          tokens.size(), static_cast<int64_t>(min_windows) * context, context);
  }
  TextWindows windows;
  windows.context = context;
  windows.count =
      static_cast<int>(max_windows > 0 ? std::min<int64_t>(available, max_windows) : available);
  windows.bos = special.add_bos ? special.bos : -1;
  tokens.resize(static_cast<size_t>(windows.count) * static_cast<size_t>(context));
  windows.tokens = std::move(tokens);
  return windows;
}

void FeedWindow(LogitsSource& source, const TextWindows& windows, std::span<const TokenId> input,
                int from, int to, PositionSink& sink) {
  struct Shift : LogitsSink {
    PositionSink* to;
    int from;
    void Rows(int, int first_token, MatrixView<const float> logits) override {
      to->Rows(from + first_token, logits);
    }
  } shift;
  shift.to = &sink;
  shift.from = from;
  const int begin = std::clamp(windows.first_scored() - from, 0, to - from);
  const int end = std::clamp(windows.context - 1 - from, 0, to - from);
  source.Feed(input.subspan(static_cast<size_t>(from), static_cast<size_t>(to - from)), begin,
              std::max(begin, end), shift);
}

}  // namespace tq::lab
