// SPDX-License-Identifier: Apache-2.0

#include "turboquant/codec/cpu/intrinsics.h"
#include "turboquant/codec/cpu/rotation_kernels.h"

namespace tq::avx2 {

using Vector = __m256;
static constexpr int kWidth = 8;

static inline Vector Load(const float* p) { return _mm256_loadu_ps(p); }
static inline void Store(float* p, Vector v) { _mm256_storeu_ps(p, v); }
static inline Vector Broadcast(float x) { return _mm256_set1_ps(x); }
static inline Vector Add(Vector a, Vector b) { return _mm256_add_ps(a, b); }
static inline Vector Sub(Vector a, Vector b) { return _mm256_sub_ps(a, b); }
static inline Vector Mul(Vector a, Vector b) { return _mm256_mul_ps(a, b); }
static inline Vector FusedMulAdd(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }

// (u, v) <- (u + v, u - v) for lanes kStride apart: partner plus own value, negated in the upper
// lane.
template <int kStride>
static inline Vector Butterfly(Vector x) {
  if constexpr (kStride == 1) {
    const Vector signs = _mm256_setr_ps(0.f, -0.f, 0.f, -0.f, 0.f, -0.f, 0.f, -0.f);
    return Add(_mm256_permute_ps(x, 0xB1), _mm256_xor_ps(x, signs));
  } else if constexpr (kStride == 2) {
    const Vector signs = _mm256_setr_ps(0.f, 0.f, -0.f, -0.f, 0.f, 0.f, -0.f, -0.f);
    return Add(_mm256_permute_ps(x, 0x4E), _mm256_xor_ps(x, signs));
  } else {
    const Vector signs = _mm256_setr_ps(0.f, 0.f, 0.f, 0.f, -0.f, -0.f, -0.f, -0.f);
    return Add(_mm256_permute2f128_ps(x, x, 1), _mm256_xor_ps(x, signs));
  }
}

template <int kBlock>
static inline Vector LoadBlocks(const float* p, int stride) {
  static_assert(kBlock == 4);
  return _mm256_set_m128(_mm_loadu_ps(p + stride), _mm_loadu_ps(p));
}
template <int kBlock>
static inline void StoreBlocks(float* p, int stride, Vector v) {
  static_assert(kBlock == 4);
  _mm_storeu_ps(p, _mm256_castps256_ps128(v));
  _mm_storeu_ps(p + stride, _mm256_extractf128_ps(v, 1));
}

#include "turboquant/codec/cpu/rotation.inl"

}  // namespace tq::avx2
