// SPDX-License-Identifier: Apache-2.0
// A decoder as flags and sizes; architectures (model/architectures.cc) differ by what they set
// here, not by classes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "turboquant/gguf/gguf_file.h"
#include "turboquant/kv/kv_cache.h"
#include "turboquant/ops/elementwise.h"

namespace tq {

struct LayerSpec {
  int sliding_window = 0;  // tokens; 0 = full attention
  int rope = 0;            // index into ModelSpec::ropes
};

struct ModelSpec {
  std::string architecture;  // "llama", "qwen2", "qwen3", "gemma3"
  std::string name;          // general.name
  std::string size_label;    // "1.5B" or what the parameters amount to
  int num_layers = 0;        // L
  int embedding = 0;         // E
  int feed_forward = 0;      // F
  int q_heads = 0;           // H
  int kv_heads = 0;          // G
  int head_dim = 0;          // D
  int vocabulary = 0;        // V
  int context = 0;           // tokens that the model was trained for
  float norm_eps = 1e-5f;
  float embedding_scale = 1.0f;  // Gemma: sqrt(E)
  float attention_scale = 0.0f;  // 1 / sqrt(D) unless the file says otherwise
  bool qkv_bias = false;
  bool qk_norm = false;      // RMS norm of every q and k head before RoPE
  bool post_norms = false;   // Gemma: norms after attention and after the feed-forward block too
  bool tied_output = false;  // logits from the embedding table
  Activation activation = Activation::kSilu;
  std::vector<LayerSpec> layers;  // [L]
  std::vector<RopeTable> ropes;   // one, or two (Gemma: local and global)

  KvGeometry kv_geometry() const;
};

// Reads metadata. Throws kUnsupported naming the architecture or the feature (soft caps, experts,
// rope type) that is not run, listing what is; kCorruptFile for values that cannot be.
ModelSpec ReadModelSpec(const GgufFile& file);
std::string ArchitectureNames();

}  // namespace tq
