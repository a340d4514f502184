// SPDX-License-Identifier: Apache-2.0
#include "turboquant/codec/cpu/intrinsics.h"
#include "turboquant/codec/cpu/map_kernels.h"

namespace tq::avx2 {

using Vector = __m256;
static constexpr int kWidth = 8;

static inline Vector Load(const float* p) { return _mm256_loadu_ps(p); }
static inline void Store(float* p, Vector v) { _mm256_storeu_ps(p, v); }
static inline Vector Broadcast(float x) { return _mm256_set1_ps(x); }
static inline Vector MulAdd(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }

#include "turboquant/codec/cpu/map.inl"

}  // namespace tq::avx2
