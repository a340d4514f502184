// SPDX-License-Identifier: Apache-2.0
// Grow-only scratch of Linear: the tokens in the forms that the kernels read, and a piece of
// dequantised panel per thread. One call at a time.
#pragma once

#include <cstdint>

#include "turboquant/base/aligned_buffer.h"

namespace tq {

class LinearWorkspace {
 public:
  AlignedBuffer<uint8_t> int8_tokens;   // tiles of records (cpu/linear_kernels.h)
  AlignedBuffer<uint8_t> dense_tokens;  // [tile][block] dense records
  AlignedBuffer<uint8_t> dense_panels;  // [threads][blocks of a chunk] dense records
  AlignedBuffer<float> float_tokens;    // tiles [K][T]
  AlignedBuffer<float> panels;          // [threads][columns of a chunk][16]

  uint64_t bytes() const {
    return int8_tokens.size() + dense_tokens.size() + dense_panels.size() +
           4 * (float_tokens.size() + panels.size());
  }
};

}  // namespace tq
