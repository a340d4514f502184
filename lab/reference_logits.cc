// SPDX-License-Identifier: Apache-2.0
#include "lab/reference_logits.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace tq::lab {
namespace {

constexpr int64_t kFewestRows = 64;

// Hands on every stride-th row of the scored ones, several at a time on the pool.
class KeptRows : public PositionSink {
 public:
  using OnRow = std::function<void(int64_t, const float*)>;
  KeptRows(const ThreadPool& pool, int first_scored, int stride, int64_t first_row,
           const OnRow& on_row)
      : pool_(pool),
        first_scored_(first_scored),
        stride_(stride),
        first_row_(first_row),
        on_row_(on_row) {}

  void Rows(int first_position, MatrixView<const float> logits) override {
    pool_.ParallelForDynamic(logits.rows, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r) {
        const int64_t scored = first_position + r - first_scored_;
        if (scored % stride_ == 0) on_row_(first_row_ + scored / stride_, logits.row(r));
      }
    });
  }

 private:
  const ThreadPool& pool_;
  int first_scored_, stride_;
  int64_t first_row_;
  const OnRow& on_row_;
};

}  // namespace

ReferenceLogits::ReferenceLogits(LogitsSource& reference, TextWindows windows,
                                 const ThreadPool& pool, ReferenceOptions options)
    : windows_(std::move(windows)),
      pool_(pool),
      options_(std::move(options)),
      vocabulary_(reference.vocabulary()) {
  const int64_t scored = int64_t{windows_.count} * windows_.scored();
  const int64_t fit = std::max<int64_t>(
      static_cast<int64_t>(options_.bytes / (static_cast<uint64_t>(vocabulary_) * sizeof(float))),
      kFewestRows);
  stride_ = static_cast<int>((scored + fit - 1) / fit);
  rows_per_window_ = (windows_.scored() + stride_ - 1) / stride_;
  rows_ = rows_per_window_ * windows_.count;
  logits_ = AlignedBuffer<float>(static_cast<size_t>(rows_ * vocabulary_));
  stats_.resize(static_cast<size_t>(rows_));
  Feed(reference, [this](int64_t row, const float* logits) {
    std::memcpy(logits_.data() + row * vocabulary_, logits,
                static_cast<size_t>(vocabulary_) * sizeof(float));
    stats_[static_cast<size_t>(row)] = GetRowMath().softmax(logits, vocabulary_);
  });
}

std::vector<float> ReferenceLogits::Divergence(LogitsSource& run) const {
  std::vector<float> divergence(static_cast<size_t>(rows_));
  Feed(run, [&](int64_t row, const float* logits) {
    const RowMath& math = GetRowMath();
    divergence[static_cast<size_t>(row)] = static_cast<float>(math.divergence(
        logits_.data() + row * vocabulary_, stats_[static_cast<size_t>(row)].offset(), logits,
        math.softmax(logits, vocabulary_).offset(), vocabulary_,
        -std::numeric_limits<float>::infinity()));
  });
  return divergence;
}

void ReferenceLogits::Feed(LogitsSource& source, const OnRow& on_row) const {
  for (int w = 0; w < windows_.count; ++w) {
    source.Clear();
    const std::vector<TokenId> input = windows_.Input(w);
    KeptRows sink(pool_, windows_.first_scored(), stride_, w * rows_per_window_, on_row);
    for (int from = 0; from < windows_.context;) {
      const int to = std::min(from + options_.batch, windows_.context);
      FeedWindow(source, windows_, input, from, to, sink);
      if (options_.on_fed) options_.on_fed(to - from);
      from = to;
    }
  }
}

}  // namespace tq::lab
