// SPDX-License-Identifier: Apache-2.0
#include "lab/perplexity.h"

#include <algorithm>
#include <cmath>

#include "lab/row_math.h"

namespace tq::lab {
namespace {

class Scorer : public PositionSink {
 public:
  Scorer(const TextWindows& windows, const ThreadPool& pool, KldBaseWriter* base,
         std::vector<float>& nll)
      : windows_(windows), pool_(pool), base_(base), nll_(nll) {}

  void set_window(int window) { window_ = window; }

  void Rows(int first_position, MatrixView<const float> logits) override {
    const size_t at = nll_.size();
    nll_.resize(at + static_cast<size_t>(logits.rows));
    const RowMath& math = GetRowMath();
    pool_.ParallelForDynamic(logits.rows, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r) {
        const SoftmaxStats stats = math.softmax(logits.row(r), logits.cols);
        const TokenId target = windows_.Target(window_, first_position + static_cast<int>(r));
        nll_[at + static_cast<size_t>(r)] =
            static_cast<float>(-stats.LogProb(logits.row(r)[target]));
      }
    });
    if (base_ != nullptr) base_->WriteRows(logits, pool_);
  }

 private:
  const TextWindows& windows_;
  const ThreadPool& pool_;
  KldBaseWriter* base_;
  std::vector<float>& nll_;
  int window_ = 0;
};

}  // namespace

PerplexityResult MeasurePerplexity(LogitsSource& source, const TextWindows& windows,
                                   const ThreadPool& pool, const PerplexityOptions& options) {
  PerplexityResult result;
  Scorer scorer(windows, pool, options.base, result.nll);
  double sum = 0;
  for (int w = 0; w < windows.count; ++w) {
    scorer.set_window(w);
    source.Clear();
    const std::vector<TokenId> input = windows.Input(w);
    const size_t scored_before = result.nll.size();
    for (int from = 0; from < windows.context; from += options.batch) {
      FeedWindow(source, windows, input, from, std::min(from + options.batch, windows.context),
                 scorer);
    }
    for (size_t i = scored_before; i < result.nll.size(); ++i) sum += result.nll[i];
    ++result.windows_done;
    if (options.on_window &&
        !options.on_window(result.windows_done,
                           std::exp(sum / static_cast<double>(result.nll.size()))))
      break;
  }
  return result;
}

}  // namespace tq::lab
