// SPDX-License-Identifier: Apache-2.0
// Tokens at 8 bits (linear_kernels.h has the record): a warp makes one group of one token.
#pragma once

#include <cstdint>

#include "turboquant/ops/cuda/linear_kernels.h"
#include "turboquant/ops/packed_layouts.h"

namespace tq::cuda {

// `value` is column `lane` of the group. All 32 lanes take part.
__device__ __forceinline__ void WriteTokenGroup(float value, uint8_t* records, int64_t group,
                                                int token, int lane) {
  float largest = fabsf(value);
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2)
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, mask));
  const bool none = largest < 1e-30f;
  const float scale = none ? 0.0f : __fdiv_rn(largest, 127.0f);
  const float inverse = none ? 0.0f : __fdiv_rn(127.0f, largest);
  const float shifted = __fadd_rn(__fmul_rn(value, inverse), 12582912.0f);  // to nearest even
  const int code = static_cast<int8_t>(__float_as_int(shifted) & 255);
  int sum = code;
#pragma unroll
  for (int mask = 8; mask > 0; mask /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, mask);
  uint8_t* record = records + group * kTokenRecordBytes;
  record[token * kGroupColumns + lane] = static_cast<uint8_t>(code);
  if (lane == 0) reinterpret_cast<float*>(record + kTokenScales)[token] = scale;
  if (lane % 16 == 0) {
    reinterpret_cast<float*>(record + kTokenSums)[lane / 16 * kFewTokens + token] =
        scale * static_cast<float>(sum);
  }
}

}  // namespace tq::cuda
