// SPDX-License-Identifier: Apache-2.0
// Head vectors times matrices on the device: calibrated keys and queries into the stored basis
// (codec/transform.h, MapRows), in place.
#pragma once

#include <cstdint>

#include "turboquant/codec/cuda/stream.h"

namespace tq::cuda {

// x [rows][heads][head_dim], `stride` floats between rows, device memory, 16-byte aligned heads.
// matrices [map_heads][D][D] f32 on the device, row j what the unit vector j becomes, rotation
// included; head h uses matrix h / (heads / map_heads). Results differ from the CPU's by rounding.
struct MapRowsArgs {
  float* x = nullptr;
  int64_t rows = 0;
  int64_t stride = 0;
  int heads = 0;
  int head_dim = 0;
  const float* matrices = nullptr;
  int map_heads = 0;
};
void LaunchMapRows(const MapRowsArgs& args, Stream stream);

}  // namespace tq::cuda
