// SPDX-License-Identifier: Apache-2.0
// Logits -> token. Order as llama.cpp's users know it: logit bias, penalties, top-k, top-p, min-p,
// temperature, draw.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <span>
#include <unordered_map>
#include <vector>

#include "turboquant/base/random.h"
#include "turboquant/engine/top_logits.h"
#include "turboquant/text/tokenizer.h"

namespace tq {

struct SamplerSpec {
  float temperature = 0.8f;     // <= 0: greedy
  int top_k = 40;               // <= 0: all
  float top_p = 0.95f;          // >= 1: off
  float min_p = 0.05f;          // <= 0: off
  float repeat_penalty = 1.0f;  // 1: off
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  int penalty_last_n = 64;  // 0: off, -1: all
  std::map<TokenId, float> logit_bias;
  uint64_t seed = 0;
};

// Throws kCorruptFile: none of so many logits is a number.
[[noreturn]] void ThrowNoToken(size_t logits);

class Sampler {
 public:
  explicit Sampler(const SamplerSpec& spec);  // throws kInvalidArgument for values without meaning

  // [V]; NaN logits are never chosen; ties go to the lower id. Throws kCorruptFile if no logit is a
  // number, kInvalidArgument if the bias names a token beyond V.
  TokenId Sample(std::span<const float> logits);
  // Is Sample always the largest of the model's own logits?
  bool TakesLargest() const;
  void Accept(TokenId token);  // prompt and generated tokens, for the penalties

  const SamplerSpec& spec() const { return spec_; }
  std::vector<std::byte> SaveState() const;  // random state and recent tokens
  // Throws kCorruptFile if these are not bytes of SaveState; the sampler is unchanged then.
  void RestoreState(std::span<const std::byte> state);

 private:
  std::span<const float> Adjusted(std::span<const float> logits);
  void KeepLikely();

  SamplerSpec spec_;
  Random random_;
  std::deque<TokenId> recent_;                 // newest last, penalty_last_n at most
  std::unordered_map<TokenId, int> occurred_;  // how often in recent_
  std::vector<float> adjusted_;                // scratch
  std::vector<Candidate> candidates_;          // scratch
};

}  // namespace tq
