// SPDX-License-Identifier: Apache-2.0
// The end of a forward pass: final norm and logits, only of the rows that are wanted, in blocks of
// bounded size.
#pragma once

#include <memory>
#include <vector>

#include "turboquant/model/decoder_scratch.h"
#include "turboquant/model/weights.h"

namespace tq {

class LogitsHead {
 public:
  LogitsHead(const ModelSpec& spec, const Weights& weights, Backend& backend);

  // x [T, E]: the residual stream after the last layer, spans one after another.
  void Deliver(const StepPlan& plan, MatrixView<float> x);

 private:
  // Consecutive tokens of one span; `row` is the first one's in x.
  struct Run {
    int span;
    int first_token;
    int64_t row;
    int count;
  };
  void Block(const StepPlan& plan, MatrixView<float> x, std::span<const Run> runs);

  const ModelSpec& spec_;
  const Weights& weights_;
  Backend& backend_;
  int64_t block_rows_;
  std::vector<Run> runs_;  // of one block
  std::unique_ptr<Buffer> normed_, logits_;
  std::vector<int32_t> largest_;
};

}  // namespace tq
