// SPDX-License-Identifier: Apache-2.0
#include "turboquant/codec/trellis.h"

#include <cmath>

#include "turboquant/codec/trellis_search.h"

namespace tq {

float TrellisGain(int bits, int head_dim) {
  const double sigma = TrellisOfBits(bits).sigma;
  return static_cast<float>(sigma * std::sqrt(static_cast<double>(head_dim)));
}

}  // namespace tq
