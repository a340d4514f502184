// SPDX-License-Identifier: Apache-2.0
// Floats that lie side by side, read and written together.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>
#include <type_traits>

#include "turboquant/base/cuda/bf16_quad.cuh"

namespace tq::cuda {

// kWidth 4: at addresses of multiples of 16 bytes.
template <int kWidth>
union Floats {
  static_assert(kWidth == 1 || kWidth == 4);
  std::conditional_t<kWidth == 4, float4, float> vector;
  float x[kWidth];
};

// Whether four columns of every row may be taken together.
inline bool HasQuads(const float* p, int64_t stride) {
  return reinterpret_cast<uintptr_t>(p) % 16 == 0 && stride % 4 == 0;
}

template <int kWidth>
__device__ __forceinline__ Floats<kWidth> LoadFloats(const float* p) {
  Floats<kWidth> values;
  values.vector = *reinterpret_cast<const decltype(values.vector)*>(p);
  return values;
}
template <int kWidth>
__device__ __forceinline__ void StoreFloats(float* p, const Floats<kWidth>& values) {
  *reinterpret_cast<std::remove_cv_t<decltype(values.vector)>*>(p) = values.vector;
}

// Rounded to nearest even.
__device__ __forceinline__ void StoreBf16(uint16_t* p, const Floats<1>& values) {
  *p = __bfloat16_as_ushort(__float2bfloat16_rn(values.vector));
}
__device__ __forceinline__ void StoreBf16(uint16_t* p, const Floats<4>& values) {
  *reinterpret_cast<uint2*>(p) = ToBf16Quad(values.vector);
}

}  // namespace tq::cuda
