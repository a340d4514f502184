// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

namespace tq::cuda {

// Four floats to bf16, rounded to nearest even, in the order of memory.
__device__ __forceinline__ uint2 ToBf16Quad(float4 x) {
  const __nv_bfloat162 low = __floats2bfloat162_rn(x.x, x.y),
                       high = __floats2bfloat162_rn(x.z, x.w);
  return {*reinterpret_cast<const uint32_t*>(&low), *reinterpret_cast<const uint32_t*>(&high)};
}

}  // namespace tq::cuda
