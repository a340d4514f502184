// SPDX-License-Identifier: Apache-2.0
// Row kernels of ops/elementwise.h, one table per instruction set.
#pragma once

#include <cstdint>

namespace tq {

struct ElementwiseKernels {
  void (*rms_norm)(const float* x, const float* weight, float eps, int64_t n, float* out) noexcept;
  void (*add)(float* x, const float* y, int64_t n) noexcept;
  void (*silu_mul)(const float* gate, const float* up, int64_t n, float* out) noexcept;
  void (*gelu_tanh_mul)(const float* gate, const float* up, int64_t n, float* out) noexcept;
  // One row: factors [2][rotary_dim] as RopeAngles::row.
  void (*rope_interleaved)(float* x, int heads, int head_dim, int rotary_dim,
                           const float* factors) noexcept;
  void (*rope_halves)(float* x, int heads, int head_dim, int rotary_dim,
                      const float* factors) noexcept;
};

namespace scalar {
extern const ElementwiseKernels kElementwiseKernels;
}
namespace avx2 {
extern const ElementwiseKernels kElementwiseKernels;
}
namespace avx512 {
extern const ElementwiseKernels kElementwiseKernels;
}

}  // namespace tq
