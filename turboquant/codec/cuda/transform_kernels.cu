// SPDX-License-Identifier: Apache-2.0
// Rotates head vectors in place, a warp or a part of one each.
#include "turboquant/codec/cuda/head_dims.h"
#include "turboquant/codec/cuda/quad_rotation.cuh"
#include "turboquant/codec/cuda/transform_params.h"

namespace tq::cuda {
namespace {

template <int kDim>
TQ_KERNEL(kTransformThreads, 1)
TransformKernel(const TQ_GRID_CONSTANT TransformParams p) {
  using Place = QuadPlace<kDim>;
  LetNextStart();
  WaitForInputs();
  Place place;
  if (!place.Find(BlockId() * kTransformWarps + WarpId(), p.vectors, p.heads)) return;
  float* x = p.x + place.row * p.stride + place.head * kDim;
  float4 v[Place::kQuads];
#pragma unroll
  for (int i = 0; i < Place::kQuads; ++i) {
    v[i] = {0, 0, 0, 0};
    if (place.Has(i)) v[i] = *reinterpret_cast<const float4*>(x + place.Dim(i));
  }
  RotateQuads(p.rotation, place, v);
#pragma unroll
  for (int i = 0; i < Place::kQuads; ++i) {
    if (place.Has(i)) *reinterpret_cast<float4*>(x + place.Dim(i)) = v[i];
  }
}

}  // namespace

TransformKernelFn TransformKernelOf(int head_dim) {
  return ForHeadDim<TransformKernelFn>(
      head_dim, []<int kDim>() -> TransformKernelFn { return TransformKernel<kDim>; });
}
int TransformVectors(int head_dim) { return kTransformWarps * QuadVectorsOfWarp(head_dim); }
int TransformMemory(int head_dim) { return kTransformWarps * QuadScratchBytes(head_dim); }

}  // namespace tq::cuda
