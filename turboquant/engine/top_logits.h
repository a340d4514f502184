// SPDX-License-Identifier: Apache-2.0
// The largest of V logits without sorting them. NaN and -infinity are never among them; of equal
// ones the lower id comes first.
#pragma once

#include <span>
#include <vector>

#include "turboquant/text/tokenizer.h"

namespace tq {

struct Candidate {
  float logit;
  TokenId id;
};

inline bool Before(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

// -1 if there is none. One pass.
TokenId LargestLogit(std::span<const float> logits);

// The `count` largest, largest first, into `top` (fewer if there are fewer). One pass.
void LargestLogits(std::span<const float> logits, size_t count, std::vector<Candidate>& top);

// All of them, by id.
void AllLogits(std::span<const float> logits, std::vector<Candidate>& all);

}  // namespace tq
