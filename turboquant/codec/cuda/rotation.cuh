// SPDX-License-Identifier: Apache-2.0
// The rotation of one head vector by one warp, with the bits of RotateRows on the CPU.
#pragma once

#include "turboquant/codec/cuda/lane_ops.cuh"
#include "turboquant/codec/cuda/rotation_table.h"
#include "turboquant/codec/hadamard.h"

namespace tq::cuda {

// row [kDim] in shared memory, of which the warp is the only user.
template <int kDim>
TQ_DEVICE void RotateRow(const RotationTable& table, float* row, int lane) {
  constexpr HadamardFactors kFactors = FactorsOf(kDim);
  constexpr int kInner = kFactors.inner;
  constexpr int kParts = (kDim + 31) / 32;  // v[j]: dim 32 j + lane
  float v[kParts];
#pragma unroll
  for (int j = 0; j < kParts; ++j) {
    v[j] = 32 * j + lane < kDim ? row[32 * j + lane] : 0.0f;
    if ((table.negate_before[j] >> lane & 1u) != 0) v[j] = -v[j];
  }
#pragma unroll
  for (int stride = 1; stride < (kInner < 32 ? kInner : 32); stride *= 2) {
#pragma unroll
    for (int j = 0; j < kParts; ++j) {
      const float other = ShuffleXor(v[j], stride);
      v[j] = (lane & stride) != 0 ? SubRn(other, v[j]) : AddRn(v[j], other);
    }
  }
#pragma unroll
  for (int stride = 1; stride < kInner / 32; stride *= 2) {
#pragma unroll
    for (int j = 0; j < kParts; ++j) {
      if ((j & stride) != 0) continue;
      const float u = v[j], w = v[j + stride];
      v[j] = AddRn(u, w);
      v[j + stride] = SubRn(u, w);
    }
  }
  if constexpr (kFactors.order > 1) {
    SyncWarp();
#pragma unroll
    for (int j = 0; j < kParts; ++j) {
      if (32 * j + lane < kDim) row[32 * j + lane] = v[j];
    }
    SyncWarp();
#pragma unroll
    for (int j = 0; j < kParts; ++j) {
      const int i = 32 * j + lane < kDim ? 32 * j + lane : 0;
      const uint32_t negative = table.paley_negative[i / kInner];
      const float* x = row + i % kInner;
      float sum = (negative & 1u) != 0 ? -x[0] : x[0];
      for (int k = 1; k < kFactors.order; ++k) {
        const float term = x[k * kInner];
        sum = AddRn(sum, (negative >> k & 1u) != 0 ? -term : term);
      }
      v[j] = sum;
    }
  }
  SyncWarp();
#pragma unroll
  for (int j = 0; j < kParts; ++j) {
    const bool negative = (table.negate_after[j] >> lane & 1u) != 0;
    if (32 * j + lane < kDim)
      row[32 * j + lane] = MulRn(v[j], negative ? -table.scale : table.scale);
  }
  SyncWarp();
}

}  // namespace tq::cuda
