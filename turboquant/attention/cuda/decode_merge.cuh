// SPDX-License-Identifier: Apache-2.0
// The sum of parts of a row of outputs (attention/online_softmax.h): parts of warps in shared
// memory, parts of blocks in global memory.
#pragma once

#include "turboquant/attention/cuda/decode_step.cuh"

namespace tq::cuda {

// m and l of a row, and four of its outputs.
struct PartialSum {
  float m = kLeastScore;
  float l = 0;
  float4 o = {};
};

TQ_DEVICE void AddScaled(float factor, const float4& x, float4& sum) {
  sum.x = FusedMulAdd(factor, x.x, sum.x);
  sum.y = FusedMulAdd(factor, x.y, sum.y);
  sum.z = FusedMulAdd(factor, x.z, sum.z);
  sum.w = FusedMulAdd(factor, x.w, sum.w);
}

// Parts first, first + step ... below count. Several parts' loads are on their way
// together.
constexpr float kNoPart = 2 * kLeastScore;
template <int kBatch = 6, class Parts>
TQ_DEVICE PartialSum MergeParts(const Parts& parts, int first, int step, int count, int column,
                                int quad) {
  PartialSum sum;
  for (int base = first; base < count; base += kBatch * step) {
    float2 state[kBatch];
    float4 o[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      // Past the end some part counts nothing: no branches between the loads.
      const int part = base + i * step;
      const int loaded = part < count ? part : first;
      state[i] = parts.State(loaded, column);
      o[i] = parts.Output(loaded, column, quad);
      if (part >= count) state[i].x = kNoPart;
    }
    float m = sum.m;
#pragma unroll
    for (int i = 0; i < kBatch; ++i) m = Max(m, state[i].x);
    PartialSum scaled = {m, 0, {}};
    const float decay = Exp2(sum.m - m);
    scaled.l = sum.l * decay;
    AddScaled(decay, sum.o, scaled.o);
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const float factor = Exp2(state[i].x - m);
      scaled.l = FusedMulAdd(factor, state[i].y, scaled.l);
      AddScaled(factor, o[i], scaled.o);
    }
    sum = scaled;
  }
  return sum;
}

}  // namespace tq::cuda
