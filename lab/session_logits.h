// SPDX-License-Identifier: Apache-2.0
// The logits of a loaded model with a given cache, perhaps under an observer.
#pragma once

#include <memory>

#include "lab/logits_source.h"
#include "turboquant/engine/session.h"

namespace tq::lab {

class SessionLogits : public LogitsSource {
 public:
  SessionLogits(std::shared_ptr<const Engine> engine, const SessionOptions& options,
                std::unique_ptr<Observer> observer = nullptr);
  int vocabulary() const override;
  void Clear() override;
  void Feed(std::span<const TokenId> tokens, int begin, int end, LogitsSink& sink) override;
  // Both in passes of SessionOptions::chunk tokens at most. Under a SimulatedAttention: within one
  // page that it does not fill.
  void FeedAside(std::span<const TokenId> tokens, int begin, int end, LogitsSink& sink) override;
  Session& session() { return session_; }

 private:
  void FeedPasses(SequenceId sequence, std::span<const TokenId> tokens, int begin, int end,
                  LogitsSink& sink);
  void FeedSequence(SequenceId sequence, std::span<const TokenId> tokens, int begin, int end,
                    LogitsSink& sink);

  Session session_;
  std::unique_ptr<Observer> observer_;
};

}  // namespace tq::lab
