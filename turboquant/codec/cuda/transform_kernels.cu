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
  LetNextStart();
  WaitForInputs();
  const auto quad = [&](const QuadPlace<kDim>& place, int i) {
    return reinterpret_cast<float4*>(p.x + place.row * p.stride + place.head * kDim + place.Dim(i));
  };
  RotateVectors<kDim>(
      p.rotation, BlockId() * kTransformWarps + WarpId(), p.vectors, p.heads,
      [&](const auto& place, int i) { return *quad(place, i); },
      [&](const auto& place, int i, const float4& v) { *quad(place, i) = v; });
}

}  // namespace

TransformKernelFn TransformKernelOf(int head_dim) {
  return ForHeadDim<TransformKernelFn>(
      head_dim, []<int kDim>() -> TransformKernelFn { return TransformKernel<kDim>; });
}
int TransformVectors(int head_dim) { return kTransformWarps * QuadVectorsOfWarp(head_dim); }
int TransformMemory(int head_dim) { return kTransformWarps * QuadScratchBytes(head_dim); }

}  // namespace tq::cuda
