// SPDX-License-Identifier: Apache-2.0
// Four neighbouring values of what prefill_rows.h is about.
#pragma once

#include "turboquant/attention/cuda/prefill_rows.h"
#include "turboquant/base/cuda/bf16_quad.cuh"
#include "turboquant/codec/cuda/float4_ops.cuh"
#include "turboquant/codec/cuda/page_ops.cuh"

namespace tq::cuda {

// 4 values in 8 bytes. Finite: rows behind those of a call are read too, and weighted with zero.
TQ_DEVICE uint2 ToHalves4(float4 x) { return {FiniteHalves(x.x, x.y), FiniteHalves(x.z, x.w)}; }
TQ_DEVICE float4 ToFloats4(uint2 h) {
  return {HalfLow(h.x), HalfHigh(h.x), HalfLow(h.y), HalfHigh(h.y)};
}

TQ_DEVICE float4* ResultQuad(const MergePartsArgs& args, int64_t token, int i) {
  return reinterpret_cast<float4*>(args.out + token * args.out_stride + i);
}

// Columns i .. i + 3 of a token's results, put together. The thread with a head's first columns
// writes `after`.
TQ_DEVICE float4 MergedQuad(const MergePartsArgs& args, int64_t token, int i) {
  const int cols = args.q_heads * args.head_dim;
  const auto part = [&](int n) {
    return ToFloats4(*reinterpret_cast<const uint2*>(
        args.parts + (static_cast<int64_t>(n) * args.rows + token) * cols + i));
  };
  if (args.count == 1 && args.before == nullptr && args.after == nullptr) return part(0);
  const int head = i / args.head_dim;
  const int64_t row = token * args.q_heads + head;
  const auto denominator = [&](int n) {
    return args.denominators[(static_cast<int64_t>(n) * args.q_heads + head) * args.rows + token];
  };
  float highest = args.before == nullptr ? -INFINITY : args.before[row];
  for (int n = 0; n < args.count; ++n) highest = fmaxf(highest, denominator(n));
  float4 sum = {0.0f, 0.0f, 0.0f, 0.0f};
  float total = 0.0f;
  if (args.before != nullptr) {
    total = expf(args.before[row] - highest);
    AddScaled(sum, total, *ResultQuad(args, token, i));
  }
  for (int n = 0; n < args.count; ++n) {
    const float weight = expf(denominator(n) - highest);
    total += weight;
    AddScaled(sum, weight, part(n));
  }
  float4 x = {0.0f, 0.0f, 0.0f, 0.0f};
  AddScaled(x, 1.0f / total, sum);
  if (args.after != nullptr && i % args.head_dim == 0) args.after[row] = highest + logf(total);
  return x;
}

TQ_DEVICE void StoreResult(const MergePartsArgs& args, int64_t token, int i, const float4& x) {
  *ResultQuad(args, token, i) = x;
  if (args.bf16 != nullptr)
    *reinterpret_cast<uint2*>(args.bf16 + token * args.q_heads * args.head_dim + i) = ToBf16Quad(x);
}

}  // namespace tq::cuda
