// SPDX-License-Identifier: Apache-2.0
// The rotation of each instruction set. The arithmetic is part of the format:
//   forward:  x_i <- s_i x_i; S over b: for stride 1, 2, 4 .. n/2 pairs (u, v) <- (u + v, u - v),
//   stride apart;
//             P over a: y_a = ((P_a0 x_0 + P_a1 x_1) + P_a2 x_2) + ..; y_i <- y_i * c, c = f32(1 /
//             sqrt(D)).
//   back:     the same S, then P transposed, then y_i <- y_i * (s_i c).
#pragma once

#include <cstdint>

namespace tq {

struct RotationPlan {
  int head_dim = 0;
  bool back = false;
  const float* before = nullptr;  // [D] factors before the butterfly: signs; null when back
  const float* after = nullptr;   // [D] factors after it: c, or signs * c when back
  const float* paley = nullptr;   // [m][m] P or its transpose; null if m = 1
};

using RotateKernel = void (*)(const RotationPlan& plan, float* x, int64_t count,
                              int64_t stride) noexcept;

namespace scalar {
void RotateRows(const RotationPlan& plan, float* x, int64_t count, int64_t stride) noexcept;
}
namespace avx2 {
void RotateRows(const RotationPlan& plan, float* x, int64_t count, int64_t stride) noexcept;
}
namespace avx512 {
void RotateRows(const RotationPlan& plan, float* x, int64_t count, int64_t stride) noexcept;
}

}  // namespace tq
