// SPDX-License-Identifier: Apache-2.0
// The parameter block of the transform kernel, filled by transform_kernels.cc.
#pragma once

#include "turboquant/codec/cuda/rotation_table.h"

namespace tq::cuda {

inline constexpr int kTransformThreads = 256;

struct TransformParams {
  float* x;
  int64_t rows;
  int64_t stride;
  int heads;
  RotationTable rotation;
};

using TransformKernelFn = void (*)(TransformParams);
TransformKernelFn TransformKernelOf(int head_dim);
// A head vector per warp.
inline constexpr int kTransformVectors = kTransformThreads / 32;
constexpr int TransformMemory(int head_dim) { return kTransformVectors * head_dim * 4; }

}  // namespace tq::cuda
