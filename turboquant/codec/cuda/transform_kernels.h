// SPDX-License-Identifier: Apache-2.0
// The change of basis on the device (codec/transform.h): in place on rows of heads x head_dim
// floats.
#pragma once

#include <cstdint>

#include "turboquant/codec/cuda/stream.h"
#include "turboquant/codec/transform.h"

namespace tq::cuda {

// x [rows][heads][head_dim], `stride` floats between rows, device memory. `map`: [map_heads][D][D]
// f32 on the device or null; head h uses matrix h / (heads / map_heads), y = M x, before the
// rotation. The rotation alone has the bits of RotateRows on the CPU.
struct TransformArgs {
  float* x = nullptr;
  int64_t rows = 0;
  int64_t stride = 0;
  int heads = 0;
  int head_dim = 0;
  Side side = Side::kKey;
  const float* map = nullptr;
  int map_heads = 0;
};

// z = H A k (map: A), q' = H A^-T q (map: A^-T), z = H v (no map).
void LaunchToStored(const TransformArgs& args, Stream stream);
// x = H^T z: outputs back to the model's basis. The map must be null.
void LaunchToModel(const TransformArgs& args, Stream stream);

}  // namespace tq::cuda
