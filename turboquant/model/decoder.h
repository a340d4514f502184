// SPDX-License-Identifier: Apache-2.0
// One forward pass of a decoder-only transformer over a batch of token spans. decoder.cc is the
// only place where the order of a block is written.
#pragma once

#include <memory>
#include <span>

#include "turboquant/backend/backend.h"
#include "turboquant/model/model_spec.h"
#include "turboquant/model/step_plan.h"
#include "turboquant/model/weights.h"

namespace tq {

class Decoder {
 public:
  // key_maps [L, G] of the backend's memory, or none: the plain rotation for all keys. All of them
  // must outlive the decoder.
  Decoder(const ModelSpec& spec, const Weights& weights, Backend& backend,
          std::span<const KeyMap> key_maps = {});
  ~Decoder();

  // Appends the plan's tokens to their sequences in `cache` and delivers the logits that were asked
  // for. Throws before anything is changed if the cache cannot take them.
  void Forward(const StepPlan& plan, KvCache& cache);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tq
