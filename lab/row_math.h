// SPDX-License-Identifier: Apache-2.0
// The loops over one row of logits [V] that every measurement runs: softmax, divergence, 16-bit
// log-probabilities.
#pragma once

#include <cstdint>

#include "turboquant/base/cpu_isa.h"

namespace tq::lab {

struct SoftmaxStats {
  float max = 0;
  double log_sum_exp = 0;  // ln sum exp(x - max); ln p(i) = x[i] - max - log_sum_exp
  int argmax = 0;          // the first of equals

  double LogProb(float logit) const { return static_cast<double>(logit) - max - log_sum_exp; }
  float offset() const { return static_cast<float>(max + log_sum_exp); }  // ln p(i) = x[i] - offset
};

// Implementations differ by instruction set only, not by result: sums run over the same fixed lanes
// everywhere.
struct RowMath {
  SoftmaxStats (*softmax)(const float* logits, int64_t n);

  // sum over i with ln p(i) > cutoff of p(i) (ln p(i) - ln q(i)), ln p = p_logits - p_offset, ln q
  // likewise.
  double (*divergence)(const float* p_logits, float p_offset, const float* q_logits, float q_offset,
                       int64_t n, float cutoff);

  // codes[i] = round((logits[i] - low) / scale), 0 below `low`; scale 0 gives zeros.
  void (*encode)(const float* logits, float low, float scale, int64_t n, uint16_t* codes);

  // out[i] = scale * codes[i] + low
  void (*decode)(const uint16_t* codes, float scale, float low, int64_t n, float* out);
};

const RowMath& GetRowMath(Isa isa = ActiveIsa());

}  // namespace tq::lab
