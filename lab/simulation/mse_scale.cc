// SPDX-License-Identifier: Apache-2.0
#include "lab/simulation/mse_scale.h"

#include <numeric>
#include <utility>

namespace tq::lab {

FakeCodec WithMseScale(FakeCodec codec) {
  return WithCorrection(std::move(codec), [](std::span<const float> x, float* y) {
    const double product = std::inner_product(x.begin(), x.end(), y, 0.0);
    const double square = std::inner_product(y, y + x.size(), y, 0.0);
    const auto factor = static_cast<float>(square > 0 ? product / square : 0);
    for (size_t d = 0; d < x.size(); ++d) y[d] *= factor;
  });
}

}  // namespace tq::lab
