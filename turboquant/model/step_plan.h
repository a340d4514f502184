// SPDX-License-Identifier: Apache-2.0
// What one forward pass is asked for: the one entry of the engine, from single tokens to batches of
// prompts.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "turboquant/base/matrix_view.h"
#include "turboquant/kv/kv_cache.h"
#include "turboquant/ops/linear.h"

namespace tq {

enum class LogitsWanted { kNone, kLast, kRange };

struct SequenceSpan {
  SequenceId sequence = 0;
  std::span<const int32_t> tokens;  // appended at the sequence's current length
  LogitsWanted logits = LogitsWanted::kLast;
  int logits_begin = 0, logits_end = 0;  // for kRange: indices into tokens
};

// Receives logits in blocks of rows (never T x V at once). Rows come in order within a sequence.
class LogitsSink {
 public:
  virtual ~LogitsSink() = default;
  // logits [rows, V] of tokens [first_token, first_token + rows) of span `span`; host memory, valid
  // during the call.
  virtual void Rows(int span, int first_token, MatrixView<const float> logits) = 0;
  // Instead of Rows in a step with largest_of > 0: the index of each row's largest logit, or -1 if
  // none is a number.
  virtual void Largest(int /*span*/, int /*first_token*/, std::span<const int32_t> /*indices*/) {}
};

// Sees post-RoPE q [T, H, D], k and v [T, G, D] of one sequence at one layer, in the model's basis,
// before encoding. May change them in place: simulated ablations and calibration hang here.
class Observer {
 public:
  virtual ~Observer() = default;
  virtual void Layer(int layer, SequenceId sequence, int64_t first_position, MatrixView<float> q,
                     MatrixView<float> k, MatrixView<float> v) = 0;
  // May attend in the backend's place: fills out [T, H, D] and returns true. Called after `Layer`
  // with the same rows; the cache takes the keys and values all the same.
  virtual bool Attend(int /*layer*/, SequenceId /*sequence*/, int64_t /*first_position*/,
                      MatrixView<const float> /*q*/, MatrixView<const float> /*k*/,
                      MatrixView<const float> /*v*/, MatrixView<float> /*out*/) {
    return false;
  }
};

enum class PrefillMode {
  kExact,  // every query sees pages exactly as decoding would (measurements, tests)
  kFast,   // fresh keys and values inside the call's own tokens (generation)
};

struct StepPlan {
  std::vector<SequenceSpan> spans;  // each sequence once
  LogitsSink* sink = nullptr;
  Observer* observer = nullptr;
  PrefillMode prefill = PrefillMode::kFast;
  Precision precision = Precision::kFast;
  // Not 0: only the largest of the first so many logits is wanted, and found where they are made.
  int largest_of = 0;
  // Less memory for a prompt that is only looked at: what takes each token by itself goes over a
  // block of them at a time, and attention leaves its output in place of the queries. Fast prefill
  // on a device of the host's memory; its observer does not attend.
  bool frugal = false;
  // [L] the cache's layer of each of the model's, if not its own; those that share one overwrite
  // each other's tokens.
  std::span<const int> cache_layers;
};

}  // namespace tq
