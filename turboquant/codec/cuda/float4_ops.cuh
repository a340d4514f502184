// SPDX-License-Identifier: Apache-2.0
// Arithmetic of four floats that are loaded and stored together.
#pragma once

#include "turboquant/codec/cuda/lane_ops.cuh"

namespace tq::cuda {

TQ_DEVICE void AddScaled(float4& sum, float x, const float4& m) {
  sum.x = FusedMulAdd(x, m.x, sum.x);
  sum.y = FusedMulAdd(x, m.y, sum.y);
  sum.z = FusedMulAdd(x, m.z, sum.z);
  sum.w = FusedMulAdd(x, m.w, sum.w);
}

}  // namespace tq::cuda
