// SPDX-License-Identifier: Apache-2.0
// y = x M in place, M [D][D]. Few rows: a block reads its head's matrix once, as wide as it can and
// before its rows have arrived. Many rows: a tiled product.
#include "turboquant/codec/cuda/float4_ops.cuh"
#include "turboquant/codec/cuda/head_dims.h"
#include "turboquant/codec/cuda/map_params.h"

namespace tq::cuda {
namespace {

// Thread t: output dims 4 (t % quads) .. + 3, and of the matrix's rows every kSlices-th.
template <int kDim>
TQ_KERNEL(kMapFewThreads, 1)
MapFewKernel(const TQ_GRID_CONSTANT MapParams p) {
  constexpr int kQuads = kDim / 4, kSlices = kMapFewThreads / kQuads;
  constexpr int kSteps = (kDim + kSlices - 1) / kSlices, kAhead = kSteps < 4 ? kSteps : 4;
  LetNextStart();
  const int head = BlockId() % p.heads;
  const int64_t first = static_cast<int64_t>(BlockId() / p.heads) * kMapFewRows;
  const int rows = p.rows - first < kMapFewRows ? static_cast<int>(p.rows - first) : kMapFewRows;
  const int quad = ThreadId() % kQuads, slice = ThreadId() / kQuads;
  const auto* matrix =
      reinterpret_cast<const float4*>(p.matrices +
                                      static_cast<int64_t>(head / p.heads_per_map) * kDim * kDim) +
      quad;
  float4 m[kAhead];
  const auto load = [&](int step) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int j = slice + (step + i) * kSlices;
      m[i] = slice < kSlices && j < kDim ? matrix[j * kQuads] : float4{0, 0, 0, 0};
    }
  };
  load(0);
  WaitForInputs();
  auto* x = reinterpret_cast<float*>(SharedMemory());
  float* sums = x + kMapFewRows * kDim;  // [slice][dim]
  float* to = p.x + first * p.stride + static_cast<int64_t>(head) * kDim;
  for (int i = ThreadId(); i < kMapFewRows * kDim; i += kMapFewThreads) {
    x[i] = i / kDim < rows ? to[i / kDim * p.stride + i % kDim] : 0.0f;
  }
  SyncThreads();
  float4 sum[kMapFewRows];
#pragma unroll
  for (int r = 0; r < kMapFewRows; ++r) sum[r] = {0, 0, 0, 0};
#pragma unroll 1
  for (int step = 0; step < kSteps; step += kAhead) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int j = slice + (step + i) * kSlices;
      const float* column = x + (j < kDim ? j : 0);
#pragma unroll
      for (int r = 0; r < kMapFewRows; ++r) AddScaled(sum[r], column[r * kDim], m[i]);
    }
    if (step + kAhead < kSteps) load(step + kAhead);
  }
#pragma unroll
  for (int r = 0; r < kMapFewRows; ++r) {
    if (r >= rows) break;
    if (slice < kSlices) *reinterpret_cast<float4*>(sums + slice * kDim + 4 * quad) = sum[r];
    SyncThreads();
    for (int d = ThreadId(); d < kDim; d += kMapFewThreads) {
      float total = 0;
#pragma unroll 8
      for (int s = 0; s < kSlices; ++s) total += sums[s * kDim + d];
      to[r * p.stride + d] = total;
    }
    SyncThreads();
  }
}

template <int kDim>
TQ_KERNEL(kMapManyThreads, 1)
MapManyKernel(const TQ_GRID_CONSTANT MapParams p) {
  constexpr int kPass = MapPassDims(kDim), kParts = kPass / 64;
  constexpr int kPanelQuads = kMapPanelRows * kPass / 4, kLoads = kPanelQuads / kMapManyThreads;
  static_assert(kDim % kMapPanelRows == 0 && kLoads * kMapManyThreads == kPanelQuads);
  LetNextStart();
  const int head = BlockId() % p.heads;
  const int64_t first = static_cast<int64_t>(BlockId() / p.heads) * kMapManyRows;
  const int rows = p.rows - first < kMapManyRows ? static_cast<int>(p.rows - first) : kMapManyRows;
  const float* matrix = p.matrices + static_cast<int64_t>(head / p.heads_per_map) * kDim * kDim;
  auto* x = reinterpret_cast<float*>(SharedMemory());  // [dim][row]
  float* panels = x + kDim * kMapManyStride;           // two of [panel row][pass dim]
  const int column = ThreadId() % 16, row = ThreadId() / 16 * 4;

  float4 next[kLoads];
  const auto load = [&](int pass, int j) {
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const int at = (i * kMapManyThreads + ThreadId()) * 4;
      const int d = pass + at % kPass;
      next[i] = d < kDim ? *reinterpret_cast<const float4*>(matrix + (j + at / kPass) * kDim + d)
                         : float4{0, 0, 0, 0};
    }
  };
  const auto store = [&](float* panel) {
#pragma unroll
    for (int i = 0; i < kLoads; ++i)
      *reinterpret_cast<float4*>(panel + (i * kMapManyThreads + ThreadId()) * 4) = next[i];
  };
  load(0, 0);
  WaitForInputs();
  float* to = p.x + first * p.stride + static_cast<int64_t>(head) * kDim;
  for (int i = ThreadId(); i < kMapManyRows * kDim; i += kMapManyThreads) {
    const int r = i / kDim, d = i % kDim;
    x[d * kMapManyStride + r] = r < rows ? to[r * p.stride + d] : 0.0f;
  }
#pragma unroll 1
  for (int pass = 0; pass < kDim; pass += kPass) {
    float4 sum[4][kParts];
#pragma unroll
    for (int r = 0; r < 4; ++r) {
#pragma unroll
      for (int part = 0; part < kParts; ++part) sum[r][part] = {0, 0, 0, 0};
    }
    if (pass > 0) load(pass, 0);
    SyncThreads();  // the panel before has been read
    store(panels);
    SyncThreads();
#pragma unroll 1
    for (int j = 0, buffer = 0; j < kDim; j += kMapPanelRows, buffer ^= 1) {
      const bool more = j + kMapPanelRows < kDim;
      if (more) load(pass, j + kMapPanelRows);
      const float* panel = panels + buffer * kMapPanelRows * kPass;
#pragma unroll
      for (int k = 0; k < kMapPanelRows; ++k) {
        const float4 a = *reinterpret_cast<const float4*>(x + (j + k) * kMapManyStride + row);
#pragma unroll
        for (int part = 0; part < kParts; ++part) {
          const float4 m =
              *reinterpret_cast<const float4*>(panel + k * kPass + 64 * part + 4 * column);
          AddScaled(sum[0][part], a.x, m);
          AddScaled(sum[1][part], a.y, m);
          AddScaled(sum[2][part], a.z, m);
          AddScaled(sum[3][part], a.w, m);
        }
      }
      if (more) store(panels + (buffer ^ 1) * kMapPanelRows * kPass);
      SyncThreads();
    }
#pragma unroll
    for (int r = 0; r < 4; ++r) {
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        const int d = pass + 64 * part + 4 * column;
        if (row + r < rows && d < kDim)
          *reinterpret_cast<float4*>(to + (row + r) * p.stride + d) = sum[r][part];
      }
    }
  }
}

}  // namespace

MapKernelFn MapFewKernelOf(int head_dim) {
  return ForHeadDim<MapKernelFn>(head_dim,
                                 []<int kDim>() -> MapKernelFn { return MapFewKernel<kDim>; });
}
MapKernelFn MapManyKernelOf(int head_dim) {
  return ForHeadDim<MapKernelFn>(head_dim,
                                 []<int kDim>() -> MapKernelFn { return MapManyKernel<kDim>; });
}

}  // namespace tq::cuda
