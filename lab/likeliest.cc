// SPDX-License-Identifier: Apache-2.0
#include "lab/likeliest.h"

#include <algorithm>

#include "lab/row_math.h"

namespace tq::lab {

void LikeliestSink::Rows(int, int, MatrixView<const float> logits) {
  token =
      static_cast<TokenId>(GetRowMath().softmax(logits.row(logits.rows - 1), logits.cols).argmax);
}

void FeedText(LogitsSource& source, std::span<const TokenId> text, int batch, LikeliestSink* after,
              const std::function<void(int64_t tokens)>& on_fed) {
  LikeliestSink nobody;
  while (!text.empty()) {
    const auto pass = text.first(std::min(text.size(), static_cast<size_t>(batch)));
    text = text.subspan(pass.size());
    const auto count = static_cast<int>(pass.size());
    const bool asked = text.empty() && after != nullptr;
    source.Feed(pass, asked ? count - 1 : 0, asked ? count : 0, asked ? *after : nobody);
    if (on_fed) on_fed(count);
  }
}

}  // namespace tq::lab
