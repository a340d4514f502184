// SPDX-License-Identifier: Apache-2.0
#include "turboquant/codec/codebook.h"

#include <cmath>

namespace tq {

float CodebookGain(int bits, int head_dim) {
  const double sigma = CodebookOfBits(bits).sigma;
  return static_cast<float>(sigma * std::sqrt(static_cast<double>(head_dim)));
}

}  // namespace tq
