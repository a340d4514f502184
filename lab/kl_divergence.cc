// SPDX-License-Identifier: Apache-2.0
#include "lab/kl_divergence.h"

#include <algorithm>
#include <cmath>

#include "lab/row_math.h"
#include "turboquant/base/aligned_buffer.h"
#include "turboquant/base/error.h"

namespace tq::lab {

void DivergenceScores::Resize(size_t positions) {
  nll.resize(positions);
  nll_base.resize(positions);
  kld.resize(positions);
  p_change.resize(positions);
  same_top.resize(positions);
}

void DivergenceScores::Append(const DivergenceScores& more) {
  const auto add = [](auto& to, const auto& from) {
    to.insert(to.end(), from.begin(), from.end());
  };
  add(nll, more.nll);
  add(nll_base, more.nll_base);
  add(kld, more.kld);
  add(p_change, more.p_change);
  add(same_top, more.same_top);
}

Estimate DivergenceScores::ratio() const {
  const Estimate log = log_ratio();
  const double value = std::exp(log.value);
  return {value, value * log.error};
}

Estimate DivergenceScores::difference() const {
  const Estimate run = perplexity(), base = perplexity_base();
  const double covariance = run.value * base.value * CovarianceOfMeans(nll, nll_base);
  return {
      run.value - base.value,
      std::sqrt(std::max(run.error * run.error + base.error * base.error - 2 * covariance, 0.0))};
}

double DivergenceScores::correlation() const {
  const double errors = Mean(nll).error * Mean(nll_base).error;
  return errors > 0 ? CovarianceOfMeans(nll, nll_base) / errors : 0;
}

Estimate DivergenceScores::rms_p_change() const {
  std::vector<float> squares(p_change.size());
  std::transform(p_change.begin(), p_change.end(), squares.begin(), [](float x) { return x * x; });
  const Estimate mean = Mean(squares);
  const double root = std::sqrt(mean.value);
  return {root, root > 0 ? 0.5 / root * mean.error : 0};
}

Estimate DivergenceScores::same_top_rate() const {
  if (same_top.empty()) return {};
  const auto n = static_cast<double>(same_top.size());
  const double rate = static_cast<double>(std::count(same_top.begin(), same_top.end(), 1)) / n;
  return {rate, n > 1 ? std::sqrt(rate * (1 - rate) / (n - 1)) : 0};
}

void ScorePosition(const BaseRow& base, const float* logits, int64_t vocabulary, TokenId target,
                   DivergenceScores& scores, size_t at) {
  const RowMath& math = GetRowMath();
  const SoftmaxStats stats = math.softmax(logits, vocabulary);
  const double log_p = stats.LogProb(logits[target]);
  const double log_p_base = static_cast<double>(base.logits[target]) - base.offset;
  scores.nll[at] = static_cast<float>(-log_p);
  scores.nll_base[at] = static_cast<float>(-log_p_base);
  scores.kld[at] = static_cast<float>(
      math.divergence(base.logits, base.offset, logits, stats.offset(), vocabulary, base.cutoff));
  scores.p_change[at] = static_cast<float>(std::exp(log_p) - std::exp(log_p_base));
  scores.same_top[at] = stats.argmax == base.argmax;
}

namespace {

class FileScorer : public PositionSink {
 public:
  FileScorer(KldBaseReader& base, const ThreadPool& pool, DivergenceScores& scores)
      : base_(base), pool_(pool), scores_(scores), rows_(static_cast<size_t>(pool.num_threads())) {
    for (auto& row : rows_) row = AlignedBuffer<float>(static_cast<size_t>(base.vocabulary()));
  }

  void set_window(int window) { window_ = window; }

  void Rows(int first_position, MatrixView<const float> logits) override {
    const std::span<const uint16_t> encoded = base_.ReadRows(logits.rows);
    const int64_t words = KldRowWords(base_.vocabulary());
    const size_t at = scores_.size();
    scores_.Resize(at + static_cast<size_t>(logits.rows));
    pool_.ParallelForDynamic(logits.rows, 1, [&](int64_t begin, int64_t end, int worker) {
      float* row = rows_[static_cast<size_t>(worker)].data();
      for (int64_t r = begin; r < end; ++r) {
        base_.DecodeRow(encoded.data() + r * words, row);
        const auto argmax = static_cast<int>(std::max_element(row, row + base_.vocabulary()) - row);
        ScorePosition({row, 0.0f, argmax, -kKldBaseRange}, logits.row(r), base_.vocabulary(),
                      base_.windows().Target(window_, first_position + static_cast<int>(r)),
                      scores_, at + static_cast<size_t>(r));
      }
    });
  }

 private:
  KldBaseReader& base_;
  const ThreadPool& pool_;
  DivergenceScores& scores_;
  std::vector<AlignedBuffer<float>> rows_;  // one per worker
  int window_ = 0;
};

}  // namespace

DivergenceScores MeasureDivergence(LogitsSource& source, KldBaseReader& base, TokenId bos,
                                   const ThreadPool& pool, const DivergenceOptions& options) {
  if (source.vocabulary() != base.vocabulary()) {
    Throw(ErrorCode::kInvalidArgument,
          "the file holds log-probabilities over {} tokens, the model has {}: it was made with "
          "another model",
          base.vocabulary(), source.vocabulary());
  }
  TextWindows windows = base.windows();
  windows.bos = bos;
  DivergenceScores scores;
  FileScorer scorer(base, pool, scores);
  for (int w = 0; w < windows.count; ++w) {
    scorer.set_window(w);
    source.Clear();
    const std::vector<TokenId> input = windows.Input(w);
    for (int from = 0; from < windows.context; from += options.batch) {
      FeedWindow(source, windows, input, from, std::min(from + options.batch, windows.context),
                 scorer);
    }
    if (options.on_window && !options.on_window(w + 1, scores)) break;
  }
  return scores;
}

}  // namespace tq::lab
