// SPDX-License-Identifier: Apache-2.0
#include "turboquant/model/logits.h"

#include <algorithm>

namespace tq {
namespace {
constexpr int64_t kBlockFloats = 8 << 20;  // 32 MiB of logits at a time, but
constexpr int64_t kMostRows = 64;
constexpr int64_t kLeastRows = 8;
}  // namespace

LogitsHead::LogitsHead(const ModelSpec& spec, const Weights& weights, Backend& backend)
    : spec_(spec),
      weights_(weights),
      backend_(backend),
      block_rows_(std::clamp(kBlockFloats / spec.vocabulary, kLeastRows, kMostRows)) {}

void LogitsHead::Deliver(const StepPlan& plan, MatrixView<float> x) {
  if (plan.sink == nullptr) return;
  runs_.clear();
  int64_t in_block = 0, row = 0;
  for (size_t i = 0; i < plan.spans.size(); ++i) {
    const SequenceSpan& span = plan.spans[i];
    const auto tokens = static_cast<int>(span.tokens.size());
    int begin = span.logits_begin, end = span.logits_end;
    if (span.logits == LogitsWanted::kNone) begin = end = 0;
    if (span.logits == LogitsWanted::kLast) begin = (end = tokens) - 1;
    while (begin < end) {
      const int count = static_cast<int>(std::min<int64_t>(end - begin, block_rows_ - in_block));
      runs_.push_back({static_cast<int>(i), begin, row + begin, count});
      begin += count;
      in_block += count;
      if (in_block == block_rows_) {
        Block(plan, x, runs_);
        runs_.clear();
        in_block = 0;
      }
    }
    row += tokens;
  }
  if (!runs_.empty()) Block(plan, x, runs_);
}

void LogitsHead::Block(const StepPlan& plan, MatrixView<float> x, std::span<const Run> runs) {
  int64_t rows = 0;
  for (const Run& run : runs) rows += run.count;
  const MatrixView<float> normed(EnsureSize(normed_, backend_, rows * spec_.embedding), rows,
                                 spec_.embedding);
  const MatrixView<float> logits(EnsureSize(logits_, backend_, rows * spec_.vocabulary), rows,
                                 spec_.vocabulary);
  int64_t done = 0;
  for (const Run& run : runs) {
    backend_.RmsNorm({x.row(run.row), run.count, x.cols, x.stride}, weights_.final_norm->data(),
                     spec_.norm_eps, {normed.row(done), run.count, normed.cols});
    done += run.count;
  }
  const LinearOut out{weights_.logits ? weights_.logits.get() : weights_.embedding.get(), nullptr,
                      logits};
  backend_.Linear(normed, {&out, 1}, plan.precision);

  if (plan.largest_of > 0) {
    largest_.resize(static_cast<size_t>(rows));
    backend_.Largest(
        {logits.data, rows, std::min<int64_t>(plan.largest_of, logits.cols), logits.stride},
        largest_.data());
    size_t first = 0;
    for (const Run& run : runs) {
      const auto count = static_cast<size_t>(run.count);
      plan.sink->Largest(run.span, run.first_token, std::span(largest_).subspan(first, count));
      first += count;
    }
    return;
  }
  const float* host = backend_.OnHost(logits.data, static_cast<size_t>(rows * spec_.vocabulary));
  for (const Run& run : runs) {
    plan.sink->Rows(run.span, run.first_token, {host, run.count, spec_.vocabulary});
    host += int64_t{run.count} * spec_.vocabulary;
  }
}

}  // namespace tq
