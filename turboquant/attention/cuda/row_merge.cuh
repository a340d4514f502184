// SPDX-License-Identifier: Apache-2.0
// Softmax states of row attention added up: those of a block's warps, then those of the blocks that
// shared a sequence's keys.
#pragma once

#include <cuda_runtime.h>

namespace tq::cuda {

inline constexpr int kRowWarps = 4;
inline constexpr int kRowTile = 16;  // query rows of a block
inline constexpr int kMostSplits = 64;

// The sum of what the warps have of one column of a row, states [warp][16][D + 2] (sums, then
// maximum and denominator); maximum and denominator of all in m and l.
template <int kD>
__device__ __forceinline__ float MergeWarps(const float* states, int row, int column, float& m,
                                            float& l) {
  constexpr int kState = kRowTile * (kD + 2);
  const float* first = states + row * (kD + 2);
  m = -INFINITY;
#pragma unroll
  for (int w = 0; w < kRowWarps; ++w) m = fmaxf(m, first[w * kState + kD]);
  const float base = m == -INFINITY ? 0.0f : m;
  float sum = 0.0f;
  l = 0.0f;
#pragma unroll
  for (int w = 0; w < kRowWarps; ++w) {
    const float factor = exp2f(first[w * kState + kD] - base);
    sum += first[w * kState + column] * factor;
    l += first[w * kState + kD + 1] * factor;
  }
  return sum;
}

// A row of all splits by one warp, to `out`. partials, weights: of the first split; factors
// [kMostSplits] in shared memory, the warp's own.
template <int kD>
__device__ __forceinline__ void MergeSplits(const float* partials, const float2* weights,
                                            int splits, float* factors, float* out, int lane) {
  float2 w[kMostSplits / 32];
  float m = -INFINITY;
#pragma unroll
  for (int i = 0; i < kMostSplits / 32; ++i) {
    const int split = lane + 32 * i;
    w[i] = split < splits ? __ldcg(weights + split * kRowTile) : make_float2(-INFINITY, 0.0f);
    m = fmaxf(m, w[i].x);
  }
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) m = fmaxf(m, __shfl_xor_sync(0xffffffffu, m, mask));
  const float base = m == -INFINITY ? 0.0f : m;
  float l = 0.0f;
#pragma unroll
  for (int i = 0; i < kMostSplits / 32; ++i) {
    const float factor = exp2f(w[i].x - base);
    l += w[i].y * factor;
    factors[lane + 32 * i] = factor;
  }
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) l += __shfl_xor_sync(0xffffffffu, l, mask);
  __syncwarp();
  const float scale = l > 0.0f ? 1.0f / l : 0.0f;
  for (int d = 4 * lane; d < kD; d += 128) {
    float4 sum = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll 8
    for (int split = 0; split < splits; ++split) {
      const float4 x =
          __ldcg(reinterpret_cast<const float4*>(partials + split * kRowTile * kD + d));
      const float factor = factors[split];
      sum.x = fmaf(x.x, factor, sum.x);
      sum.y = fmaf(x.y, factor, sum.y);
      sum.z = fmaf(x.z, factor, sum.z);
      sum.w = fmaf(x.w, factor, sum.w);
    }
    out[d] = sum.x * scale;
    out[d + 1] = sum.y * scale;
    out[d + 2] = sum.z * scale;
    out[d + 3] = sum.w * scale;
  }
  __syncwarp();
}

}  // namespace tq::cuda
