// SPDX-License-Identifier: Apache-2.0
// Rotations of head vectors on the device (codec/transform.h), in place.
#pragma once

#include <cstdint>

#include "turboquant/codec/cuda/stream.h"
#include "turboquant/codec/transform.h"

namespace tq::cuda {

// x [rows][heads][head_dim], `stride` floats between rows, device memory, rows at multiples of 16
// bytes. The bits of RotateRows on the CPU.
struct TransformArgs {
  float* x = nullptr;
  int64_t rows = 0;
  int64_t stride = 0;
  int heads = 0;
  int head_dim = 0;
  Side side = Side::kKey;
};

// z = H x: queries, keys and values into the stored basis where no calibrated map does it
// (map_kernels.h).
void LaunchToStored(const TransformArgs& args, Stream stream);
// x = H^T z: outputs back to the model's basis.
void LaunchToModel(const TransformArgs& args, Stream stream);

}  // namespace tq::cuda
