// SPDX-License-Identifier: Apache-2.0
// The parameter block of the transform kernel, filled by transform_kernels.cc.
#pragma once

#include "turboquant/codec/cuda/rotation_table.h"

namespace tq::cuda {

inline constexpr int kTransformThreads = 512;
inline constexpr int kTransformRows = 8;  // rows of one head that a block takes

struct TransformParams {
  float* x;
  int64_t rows;
  int64_t stride;
  int heads;
  RotationTable rotation;
  const float* map;  // [map_heads][D][D] or null
  int heads_per_map;
};

using TransformKernelFn = void (*)(TransformParams);
TransformKernelFn TransformKernelOf(int head_dim);
// The rows before and after the map.
constexpr int TransformMemory(int head_dim) { return 2 * kTransformRows * head_dim * 4; }

}  // namespace tq::cuda
