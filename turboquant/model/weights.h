// SPDX-License-Identifier: Apache-2.0
// The tensors of a decoder, resident on a backend, under the names that the forward pass uses.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "turboquant/backend/backend.h"
#include "turboquant/model/model_spec.h"

namespace tq {

// One or more matrices over the same input, stacked where their layouts agree; `rows` are the
// outputs' sizes.
struct Projection {
  std::vector<std::unique_ptr<const PackedWeight>> parts;
  std::vector<std::unique_ptr<Buffer>> biases;  // empty, or one per part (stacked likewise)
};

struct LayerWeights {
  std::unique_ptr<Buffer> attention_norm, feed_forward_norm;            // [E]
  std::unique_ptr<Buffer> post_attention_norm, post_feed_forward_norm;  // [E] or null
  std::unique_ptr<Buffer> q_norm, k_norm;                               // [D] or null
  Projection qkv;                                                       // [(H + 2 G) D, E]
  Projection output;                                                    // [E, H D]
  Projection gate_up;                                                   // [2 F, E]
  Projection down;                                                      // [E, F]
};

struct Weights {
  std::unique_ptr<const PackedWeight> embedding;  // [V, E]
  std::unique_ptr<const PackedWeight> logits;     // [V, E]; null if tied
  std::unique_ptr<Buffer> final_norm;             // [E]
  std::vector<LayerWeights> layers;

  uint64_t bytes() const;  // memory of all of them
};

// Loads tensor by tensor and releases the file's mapped pages as it goes. progress(done_bytes,
// total_bytes) may throw to cancel. Throws kCorruptFile naming the tensor whose shape does not fit
// `spec`.
Weights LoadWeights(const GgufFile& file, const ModelSpec& spec, Backend& backend,
                    const std::function<void(uint64_t, uint64_t)>& progress = {});

}  // namespace tq
