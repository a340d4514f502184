// SPDX-License-Identifier: Apache-2.0
// Arithmetic of four floats that are loaded and stored together.
#pragma once

#include "turboquant/codec/cuda/lane_ops.cuh"

namespace tq::cuda {

TQ_DEVICE float4 AddQuads(const float4& a, const float4& b) {
  return {AddRn(a.x, b.x), AddRn(a.y, b.y), AddRn(a.z, b.z), AddRn(a.w, b.w)};
}
TQ_DEVICE float4 SubQuads(const float4& a, const float4& b) {
  return {SubRn(a.x, b.x), SubRn(a.y, b.y), SubRn(a.z, b.z), SubRn(a.w, b.w)};
}
TQ_DEVICE float4 ScaleQuad(const float4& v, float x) {
  return {MulRn(v.x, x), MulRn(v.y, x), MulRn(v.z, x), MulRn(v.w, x)};
}
TQ_DEVICE float AbsMax(const float4& v) {
  return Max(Max(Abs(v.x), Abs(v.y)), Max(Abs(v.z), Abs(v.w)));
}
TQ_DEVICE void AddScaled(float4& sum, float x, const float4& m) {
  sum.x = FusedMulAdd(x, m.x, sum.x);
  sum.y = FusedMulAdd(x, m.y, sum.y);
  sum.z = FusedMulAdd(x, m.z, sum.z);
  sum.w = FusedMulAdd(x, m.w, sum.w);
}

}  // namespace tq::cuda
