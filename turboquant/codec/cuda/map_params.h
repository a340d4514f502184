// SPDX-License-Identifier: Apache-2.0
// The parameter block of the map kernels, filled by map_kernels.cc.
#pragma once

#include <cstdint>

namespace tq::cuda {

struct MapParams {
  float* x;
  int64_t rows;
  int64_t stride;
  int heads;
  const float* matrices;
  int heads_per_map;
};
using MapKernelFn = void (*)(MapParams);

// A block per head and few rows: all threads share one matrix's rows, and add up.
inline constexpr int kMapFewThreads = 1024;
inline constexpr int kMapFewRows = 4;
MapKernelFn MapFewKernelOf(int head_dim);
// The rows, and a sum [D] of every slice of the matrix's rows.
constexpr int MapFewMemory(int head_dim) {
  return kMapFewRows * head_dim * 4 + kMapFewThreads * 16;
}

// A block per head and many rows: tiles in registers, 4 rows by 4 or 8 dims a thread.
inline constexpr int kMapManyThreads = 256;
inline constexpr int kMapManyRows = 64;
inline constexpr int kMapManyStride = kMapManyRows + 4;  // fewer conflicts, float4 still aligned
inline constexpr int kMapPanelRows = 16;                 // of the matrix at a time
MapKernelFn MapManyKernelOf(int head_dim);
constexpr int MapPassDims(int head_dim) { return head_dim <= 64 ? 64 : 128; }
// The rows, transposed, and two panels of the matrix.
constexpr int MapManyMemory(int head_dim) {
  return head_dim * kMapManyStride * 4 + 2 * kMapPanelRows * MapPassDims(head_dim) * 4;
}

}  // namespace tq::cuda
