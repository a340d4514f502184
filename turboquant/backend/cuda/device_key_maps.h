// SPDX-License-Identifier: Apache-2.0
// Calibrated key maps in device memory, copied when a layer first uses them.
#pragma once

#include <list>

#include "turboquant/base/cuda/device_memory.h"
#include "turboquant/codec/transform.h"

namespace tq::cuda {

class DeviceKeyMaps {
 public:
  struct Layer {
    const float* keys;     // [G][D][D] as in KeyMap; heads without a map have the rotation
    const float* queries;  // [G][D][D]
    const float* mean;     // [G][D], zeros where there is none; null: nobody has one
  };
  // maps [kv_heads] of one layer, host memory that does not change until Clear.
  const Layer& Of(const KeyMap* maps, int kv_heads, int head_dim);
  void Clear() { entries_.clear(); }

 private:
  struct Entry {
    const KeyMap* maps;
    DeviceBytes memory;
    Layer layer;
  };
  std::list<Entry> entries_;
};

}  // namespace tq::cuda
