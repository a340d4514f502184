// SPDX-License-Identifier: Apache-2.0
#include "turboquant/engine/position_spread.h"

#include <cmath>
#include <numbers>
#include <vector>

namespace tq {
namespace {

constexpr int kDistances = 64;

// Rows and columns i and j of a symmetric [D][D] as coordinates of one plane each: turned by angle.
void TurnRows(double* m, int dim, int i, int j, double cos, double sin) {
  for (int k = 0; k < dim; ++k) {
    const double a = m[i * dim + k], b = m[j * dim + k];
    m[i * dim + k] = cos * a - sin * b;
    m[j * dim + k] = sin * a + cos * b;
  }
}
void TurnColumns(double* m, int dim, int i, int j, double cos, double sin) {
  for (int k = 0; k < dim; ++k) {
    const double a = m[k * dim + i], b = m[k * dim + j];
    m[k * dim + i] = cos * a - sin * b;
    m[k * dim + j] = sin * a + cos * b;
  }
}

}  // namespace

void SpreadOverPositions(const RopeTable& rope, int range, int head_dim, std::span<double> moment) {
  const std::vector<double> here(moment.begin(), moment.end());
  std::vector<double> turned;
  for (int n = 1; n < kDistances; ++n) {
    // Multiples of the golden ratio: even over the range, and in step with no frequency.
    const double distance = std::floor(std::fmod(n * std::numbers::phi, 1.0) * range);
    turned = here;
    for (size_t pair = 0; pair < rope.frequencies.size(); ++pair) {
      const auto p = static_cast<int>(pair);
      const int i = rope.style == RopeStyle::kInterleaved ? 2 * p : p;
      const int j = rope.style == RopeStyle::kInterleaved ? 2 * p + 1 : p + rope.rotary_dim / 2;
      const double angle = rope.frequencies[pair] * distance;
      const double cos = std::cos(angle), sin = std::sin(angle);
      TurnRows(turned.data(), head_dim, i, j, cos, sin);
      TurnColumns(turned.data(), head_dim, i, j, cos, sin);
    }
    for (size_t i = 0; i < turned.size(); ++i) moment[i] += turned[i];
  }
  for (double& x : moment) x /= kDistances;
}

}  // namespace tq
