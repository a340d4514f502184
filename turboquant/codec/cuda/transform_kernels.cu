// SPDX-License-Identifier: Apache-2.0
// y = rotation (map x), in place: a block takes a few rows of one head, a warp one row or, for the
// map, one output dim of all of them.
#include "turboquant/codec/cuda/head_dims.h"
#include "turboquant/codec/cuda/rotation.cuh"
#include "turboquant/codec/cuda/transform_params.h"

namespace tq::cuda {
namespace {

template <int kDim>
TQ_KERNEL(kTransformThreads, 1)
TransformKernel(const TQ_GRID_CONSTANT TransformParams p) {
  const int head = BlockId() % p.heads;
  const int64_t first = static_cast<int64_t>(BlockId() / p.heads) * kTransformRows;
  const int rows =
      p.rows - first < kTransformRows ? static_cast<int>(p.rows - first) : kTransformRows;
  float* x = reinterpret_cast<float*>(SharedMemory());
  float* y = x + kTransformRows * kDim;
  float* from = p.x + first * p.stride + head * kDim;
  for (int i = ThreadId(); i < kTransformRows * kDim; i += Threads()) {
    x[i] = i / kDim < rows ? from[i / kDim * p.stride + i % kDim] : 0.0f;
  }
  SyncThreads();
  if (p.map != nullptr) {
    const float* map = p.map + static_cast<int64_t>(head / p.heads_per_map) * kDim * kDim;
    for (int dim = WarpId(); dim < kDim; dim += Threads() / 32) {
      float sums[kTransformRows] = {};
      for (int j = LaneId(); j < kDim; j += 32) {
        const float m = map[dim * kDim + j];
#pragma unroll
        for (int r = 0; r < kTransformRows; ++r) sums[r] = FusedMulAdd(m, x[r * kDim + j], sums[r]);
      }
#pragma unroll
      for (int r = 0; r < kTransformRows; ++r) {
#pragma unroll
        for (int mask = 16; mask > 0; mask /= 2) sums[r] += ShuffleXor(sums[r], mask);
        if (LaneId() == r) y[r * kDim + dim] = sums[r];
      }
    }
    x = y;
    SyncThreads();
  }
  for (int r = WarpId(); r < rows; r += Threads() / 32) {
    RotateRow<kDim>(p.rotation, x + r * kDim, LaneId());
    for (int d = LaneId(); d < kDim; d += 32) from[r * p.stride + d] = x[r * kDim + d];
  }
}

}  // namespace

TransformKernelFn TransformKernelOf(int head_dim) {
  return ForHeadDim<TransformKernelFn>(
      head_dim, []<int kDim>() -> TransformKernelFn { return TransformKernel<kDim>; });
}

}  // namespace tq::cuda
