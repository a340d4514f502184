// SPDX-License-Identifier: Apache-2.0
#include "turboquant/codec/cpu/rotation_kernels.h"
#include "turboquant/codec/hadamard.h"

namespace tq::scalar {

void RotateRows(const RotationPlan& plan, float* x, int64_t count, int64_t stride) noexcept {
  const int dims = plan.head_dim;
  const HadamardFactors factors = FactorsOf(dims);
  for (int64_t row = 0; row < count; ++row, x += stride) {
    if (plan.before != nullptr) {
      for (int i = 0; i < dims; ++i) x[i] *= plan.before[i];
    }
    for (int half = 1; half < factors.inner; half *= 2) {
      for (int block = 0; block < dims; block += 2 * half) {
        for (int i = block; i < block + half; ++i) {
          const float u = x[i], v = x[i + half];
          x[i] = u + v;
          x[i + half] = u - v;
        }
      }
    }
    if (factors.order > 1) {
      float sums[512];
      for (int a = 0; a < factors.order; ++a) {
        const float* signs = plan.paley + a * factors.order;
        float* sum = sums + a * factors.inner;
        for (int b = 0; b < factors.inner; ++b) sum[b] = signs[0] * x[b];
        for (int i = 1; i < factors.order; ++i) {
          const float* term = x + i * factors.inner;
          for (int b = 0; b < factors.inner; ++b) sum[b] += signs[i] * term[b];
        }
      }
      for (int i = 0; i < dims; ++i) x[i] = sums[i];
    }
    for (int i = 0; i < dims; ++i) x[i] *= plan.after[i];
  }
}

}  // namespace tq::scalar
