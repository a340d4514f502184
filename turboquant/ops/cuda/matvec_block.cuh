// SPDX-License-Identifier: Apache-2.0
// What the matrix-vector kernels share, and how warps of a block that has one panel of 16 rows add
// up in shared memory.
#pragma once

#include <cstdint>

#include "turboquant/ops/cuda/linear_kernels.h"
#include "turboquant/ops/packed_layouts.h"

namespace tq::cuda {

inline constexpr int kMatVecWarps = 8;
inline constexpr int kMatVecThreads = 32 * kMatVecWarps;

struct MatVecParams {
  const uint8_t* panels;
  int64_t panel_bytes;
  int groups;
  int rows;
  int tokens;
  const uint8_t* records;
  int places;  // of records
  const float* x;
  int64_t x_stride;
  const float* bias;
  float* out;
  int64_t out_stride;
  bool accumulate;
};

// Of the current device.
inline int Multiprocessors() {
  int device = 0, count = 1;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device);
  return count;
}

// Integers added to this, 1.5 * 2^23 as a float, read back as floats.
inline constexpr int kMagic = 0x4b400000;
inline constexpr float kMagicFloat = 12582912.0f;

// d = c + A B, where d may be c.
__device__ __forceinline__ void Mma32(int (&d)[4], const int (&c)[4], uint32_t a0, uint32_t a1,
                                      uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%10,%11,%12,%13};"
      : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1), "r"(c[0]), "r"(c[1]), "r"(c[2]),
        "r"(c[3]));
}
// The same with A 16 x 16.
__device__ __forceinline__ void Mma16(int (&d)[4], const int (&c)[4], uint32_t a0, uint32_t a1,
                                      uint32_t b0) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, "
      "{%7,%8,%9,%10};"
      : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
      : "r"(a0), "r"(a1), "r"(b0), "r"(c[0]), "r"(c[1]), "r"(c[2]), "r"(c[3]));
}

// The product of row n and a token, which are there.
__device__ __forceinline__ void WriteSum(const MatVecParams& p, int64_t n, int token, float sum) {
  if (p.bias != nullptr) sum += p.bias[n];
  float* out = p.out + token * p.out_stride + n;
  *out = p.accumulate ? *out + sum : sum;
}

// sums [warps][16 rows][kTokens]: every warp has written its share.
template <int kTokens>
__device__ __forceinline__ void FinishPanel(const MatVecParams& p, const float* sums) {
  __syncthreads();
  const int warps = blockDim.x / 32;
  for (int i = threadIdx.x; i < kPanelRows * p.tokens; i += blockDim.x) {
    const int row = i % kPanelRows, token = i / kPanelRows;
    const int64_t n = static_cast<int64_t>(blockIdx.x) * kPanelRows + row;
    if (n >= p.rows) continue;
    float sum = 0.0f;
    for (int w = 0; w < warps; ++w) sum += sums[(w * kPanelRows + row) * kTokens + token];
    WriteSum(p, n, token, sum);
  }
}

}  // namespace tq::cuda
