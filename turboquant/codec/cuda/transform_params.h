// SPDX-License-Identifier: Apache-2.0
// The parameter block of the transform kernel, filled by transform_kernels.cc.
#pragma once

#include "turboquant/codec/cuda/rotation_table.h"

namespace tq::cuda {

inline constexpr int kTransformThreads = 256, kTransformWarps = kTransformThreads / 32;

struct TransformParams {
  float* x;
  int64_t stride;
  int vectors;  // of all rows
  int heads;
  RotationTable rotation;
};

using TransformKernelFn = void (*)(TransformParams);
TransformKernelFn TransformKernelOf(int head_dim);
int TransformVectors(int head_dim);  // of a block
int TransformMemory(int head_dim);

}  // namespace tq::cuda
