// SPDX-License-Identifier: Apache-2.0
// Rotates head vectors in place, a warp each.
#include "turboquant/codec/cuda/head_dims.h"
#include "turboquant/codec/cuda/rotation.cuh"
#include "turboquant/codec/cuda/transform_params.h"

namespace tq::cuda {
namespace {

template <int kDim>
TQ_KERNEL(kTransformThreads, 1)
TransformKernel(const TQ_GRID_CONSTANT TransformParams p) {
  LetNextStart();
  WaitForInputs();
  const int64_t vector = static_cast<int64_t>(BlockId()) * kTransformVectors + WarpId();
  if (vector >= p.rows * p.heads) return;
  float* scratch = reinterpret_cast<float*>(SharedMemory()) + WarpId() * kDim;
  float* x = p.x + vector / p.heads * p.stride + vector % p.heads * kDim;
  for (int d = LaneId(); d < kDim; d += 32) scratch[d] = x[d];
  SyncWarp();
  RotateRow<kDim>(p.rotation, scratch, LaneId());
  for (int d = LaneId(); d < kDim; d += 32) x[d] = scratch[d];
}

}  // namespace

TransformKernelFn TransformKernelOf(int head_dim) {
  return ForHeadDim<TransformKernelFn>(
      head_dim, []<int kDim>() -> TransformKernelFn { return TransformKernel<kDim>; });
}

}  // namespace tq::cuda
