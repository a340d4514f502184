// SPDX-License-Identifier: Apache-2.0
#include "lab/simulation/alpha.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "turboquant/base/error.h"

namespace tq::lab {

FakeCodec WithEncodeAlpha(FakeCodec codec, double alpha) {
  return [codec = std::move(codec), alpha = static_cast<float>(alpha)](MatrixView<float> rows) {
    // Codes do not change when a vector does by a factor: only the scale takes it.
    for (int64_t r = 0; r < rows.rows; ++r) {
      for (int64_t d = 0; d < rows.cols; ++d) rows.row(r)[d] *= alpha;
    }
    codec(rows);
  };
}

float ContextAlpha(int bits, int64_t tokens) {
  TQ_CHECK(bits == 2 || bits == 3);
  const double log = std::log(static_cast<double>(std::max<int64_t>(tokens, 1)));
  return static_cast<float>(bits == 3 ? std::clamp(1.1484 - 0.01443 * log, 0.98, 1.06)
                                      : std::clamp(0.8865 + 0.0195 * log, 1.0, 1.12));
}

}  // namespace tq::lab
