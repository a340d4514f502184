// SPDX-License-Identifier: Apache-2.0
#include "lab/simulation/sign_residual.h"

#include <cmath>
#include <memory>
#include <numbers>
#include <numeric>
#include <utility>
#include <vector>

#include "turboquant/base/half.h"
#include "turboquant/base/random.h"

namespace tq::lab {
namespace {

constexpr uint64_t kSeed = 240603482;

// The same for all heads, as the paper has it.
std::shared_ptr<const std::vector<float>> MakeProjection(int head_dim) {
  auto s = std::make_shared<std::vector<float>>(static_cast<size_t>(head_dim * head_dim));
  Random random(kSeed);
  for (float& x : *s) x = static_cast<float>(random.Gaussian());
  return s;
}

// y <- y + what the signs tell of x - y; dims of x and y as many as S has rows and columns.
void AddResidual(const std::vector<float>& s, std::span<const float> x, float* y) {
  const size_t dims = x.size();
  std::vector<float> residual(dims);
  for (size_t d = 0; d < dims; ++d) residual[d] = x[d] - y[d];
  const float square = std::inner_product(residual.begin(), residual.end(), residual.begin(), 0.0f);
  const float norm = HalfToFloat(FloatToHalf(std::sqrt(square)));
  const float factor = std::sqrt(std::numbers::pi_v<float> / 2) / static_cast<float>(dims) * norm;
  for (size_t i = 0; i < dims; ++i) {
    const float* row = s.data() + i * dims;
    const float projected = std::inner_product(row, row + dims, residual.begin(), 0.0f);
    const float step = projected < 0 ? -factor : factor;
    for (size_t d = 0; d < dims; ++d) y[d] += step * row[d];
  }
}

}  // namespace

FakeCodec WithSignResidual(FakeCodec codec, int head_dim) {
  return WithCorrection(std::move(codec),
                        [s = MakeProjection(head_dim)](std::span<const float> x, float* y) {
                          AddResidual(*s, x, y);
                        });
}

}  // namespace tq::lab
