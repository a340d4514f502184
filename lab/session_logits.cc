// SPDX-License-Identifier: Apache-2.0
#include "lab/session_logits.h"

#include <algorithm>

namespace tq::lab {

SessionLogits::SessionLogits(std::shared_ptr<const Engine> engine, const SessionOptions& options,
                             std::unique_ptr<Observer> observer)
    : session_(std::move(engine), options), observer_(std::move(observer)) {}

int SessionLogits::vocabulary() const { return session_.engine().spec().vocabulary; }

void SessionLogits::Clear() { session_.Clear(); }

void SessionLogits::Feed(std::span<const TokenId> tokens, int begin, int end, LogitsSink& sink) {
  FeedPasses(session_.main_sequence(), tokens, begin, end, sink);
}

void SessionLogits::FeedAside(std::span<const TokenId> tokens, int begin, int end,
                              LogitsSink& sink) {
  const SequenceId aside = session_.cache().Fork(session_.main_sequence());
  try {
    FeedPasses(aside, tokens, begin, end, sink);
  } catch (...) {
    session_.cache().FreeSequence(aside);
    throw;
  }
  session_.cache().FreeSequence(aside);
}

void SessionLogits::FeedPasses(SequenceId sequence, std::span<const TokenId> tokens, int begin,
                               int end, LogitsSink& sink) {
  struct Shift : LogitsSink {
    LogitsSink* to = nullptr;
    int from = 0;
    void Rows(int span, int first_token, MatrixView<const float> logits) override {
      to->Rows(span, from + first_token, logits);
    }
  } shift;
  shift.to = &sink;
  const auto count = static_cast<int>(tokens.size());
  for (int& from = shift.from; from < count;) {
    const int pass = std::min(session_.options().chunk, count - from);
    FeedSequence(sequence, tokens.subspan(static_cast<size_t>(from), static_cast<size_t>(pass)),
                 std::clamp(begin - from, 0, pass), std::clamp(end - from, 0, pass), shift);
    from += pass;
  }
}

void SessionLogits::FeedSequence(SequenceId sequence, std::span<const TokenId> tokens, int begin,
                                 int end, LogitsSink& sink) {
  StepPlan plan;
  SequenceSpan span;
  span.sequence = sequence;
  span.tokens = tokens;
  span.logits = begin < end ? LogitsWanted::kRange : LogitsWanted::kNone;
  span.logits_begin = begin;
  span.logits_end = end;
  plan.spans.push_back(span);
  plan.sink = &sink;
  plan.observer = observer_.get();
  plan.prefill = session_.options().prefill;
  plan.precision = session_.options().precision;
  session_.Forward(plan);
}

}  // namespace tq::lab
