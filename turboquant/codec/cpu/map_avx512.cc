// SPDX-License-Identifier: Apache-2.0
#include "turboquant/codec/cpu/intrinsics.h"
#include "turboquant/codec/cpu/map_kernels.h"

namespace tq::avx512 {

using Vector = __m512;
static constexpr int kWidth = 16;

static inline Vector Load(const float* p) { return _mm512_loadu_ps(p); }
static inline void Store(float* p, Vector v) { _mm512_storeu_ps(p, v); }
static inline Vector Broadcast(float x) { return _mm512_set1_ps(x); }
static inline Vector MulAdd(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }

#include "turboquant/codec/cpu/map.inl"

}  // namespace tq::avx512
