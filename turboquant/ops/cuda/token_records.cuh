// SPDX-License-Identifier: Apache-2.0
// Tokens at 8 bits (linear_kernels.h has the record).
#pragma once

#include <cstdint>

#include "turboquant/ops/cuda/linear_kernels.h"
#include "turboquant/ops/packed_layouts.h"

namespace tq::cuda {

struct TokenScale {
  float scale, inverse;

  __device__ __forceinline__ explicit TokenScale(float largest) {
    const bool none = largest < 1e-30f;
    scale = none ? 0.0f : __fdiv_rn(largest, 127.0f);
    inverse = none ? 0.0f : __fdiv_rn(127.0f, largest);
  }
  __device__ __forceinline__ int Code(float value) const {
    const float shifted = __fadd_rn(__fmul_rn(value, inverse), 12582912.0f);  // to nearest even
    return static_cast<int8_t>(__float_as_int(shifted) & 255);
  }
};

struct TokenRecords {
  uint8_t* records;
  int64_t groups;  // of a token
  int places;

  __device__ __forceinline__ uint8_t* Of(int64_t group) const {
    return records + group * TokenRecordBytes(places);
  }
  // Word `word` of a token's 32 codes (columns 4 word..).
  __device__ __forceinline__ uint8_t* Codes(int64_t group, int token, int word) const {
    return Of(group) + token * kGroupColumns + (word % 4 * 2 + word / 4) * 4;
  }
  __device__ __forceinline__ void WriteScale(int64_t group, int token, float scale, int sum) const {
    reinterpret_cast<float2*>(Of(group) + TokenScales(places))[token] = {
        scale, scale * static_cast<float>(sum)};
  }
  __device__ __forceinline__ void WriteHalfSum(int64_t group, int token, int half, float scale,
                                               int sum) const {
    reinterpret_cast<float*>(Of(groups) + group * HalfSumBytes(places))[half * places + token] =
        scale * static_cast<float>(sum);
  }
};

// A group by a warp: `value` is column `lane`. All 32 lanes take part.
__device__ __forceinline__ void WriteTokenGroup(float value, const TokenRecords& records,
                                                int64_t group, int token, int lane) {
  float largest = fabsf(value);
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2)
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, mask));
  const TokenScale scale(largest);
  const int code = scale.Code(value);
  int sum = code;
#pragma unroll
  for (int mask = 8; mask > 0; mask /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, mask);
  const int total = sum + __shfl_xor_sync(0xffffffffu, sum, 16);
  records.Codes(group, token, lane / 4)[lane % 4] = static_cast<uint8_t>(code);
  if (lane == 0) records.WriteScale(group, token, scale.scale, total);
  if (lane % 16 == 0) records.WriteHalfSum(group, token, lane / 16, scale.scale, sum);
}

// A group by eight lanes: `values` are columns 4 (lane % 8).. of it. The eight take part together.
__device__ __forceinline__ void WriteTokenGroup4(const float (&values)[4],
                                                 const TokenRecords& records, int64_t group,
                                                 int token, int lane) {
  const unsigned eight = 0xffu << (lane & 24);
  float largest =
      fmaxf(fmaxf(fabsf(values[0]), fabsf(values[1])), fmaxf(fabsf(values[2]), fabsf(values[3])));
#pragma unroll
  for (int mask = 4; mask > 0; mask /= 2)
    largest = fmaxf(largest, __shfl_xor_sync(eight, largest, mask));
  const TokenScale scale(largest);
  uint32_t word = 0;
  int sum = 0;
#pragma unroll
  for (int c = 0; c < 4; ++c) {
    const int code = scale.Code(values[c]);
    word |= (static_cast<uint32_t>(code) & 255u) << (8 * c);
    sum += code;
  }
  sum += __shfl_xor_sync(eight, sum, 1);
  sum += __shfl_xor_sync(eight, sum, 2);
  const int total = sum + __shfl_xor_sync(eight, sum, 4);
  const int in_group = lane % 8;
  *reinterpret_cast<uint32_t*>(records.Codes(group, token, in_group)) = word;
  if (in_group == 0) records.WriteScale(group, token, scale.scale, total);
  if (in_group % 4 == 0) records.WriteHalfSum(group, token, in_group / 4, scale.scale, sum);
}

}  // namespace tq::cuda
