// SPDX-License-Identifier: Apache-2.0

#include "turboquant/codec/cpu/intrinsics.h"
#include "turboquant/codec/cpu/rotation_kernels.h"

namespace tq::avx512 {

using Vector = __m512;
static constexpr int kWidth = 16;

static inline Vector Load(const float* p) { return _mm512_loadu_ps(p); }
static inline void Store(float* p, Vector v) { _mm512_storeu_ps(p, v); }
static inline Vector Broadcast(float x) { return _mm512_set1_ps(x); }
static inline Vector Add(Vector a, Vector b) { return _mm512_add_ps(a, b); }
static inline Vector Sub(Vector a, Vector b) { return _mm512_sub_ps(a, b); }
static inline Vector Mul(Vector a, Vector b) { return _mm512_mul_ps(a, b); }
static inline Vector FusedMulAdd(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }

// (u, v) <- (u + v, u - v) for lanes kStride apart.
template <int kStride>
static inline Vector Butterfly(Vector x) {
  Vector partner;
  __mmask16 upper;
  if constexpr (kStride == 1) {
    partner = _mm512_permute_ps(x, 0xB1);
    upper = 0xAAAA;
  } else if constexpr (kStride == 2) {
    partner = _mm512_permute_ps(x, 0x4E);
    upper = 0xCCCC;
  } else if constexpr (kStride == 4) {
    partner = _mm512_shuffle_f32x4(x, x, 0xB1);
    upper = 0xF0F0;
  } else {
    partner = _mm512_shuffle_f32x4(x, x, 0x4E);
    upper = 0xFF00;
  }
  return _mm512_mask_sub_ps(_mm512_add_ps(partner, x), upper, partner, x);
}

template <int kBlock>
static inline Vector LoadBlocks(const float* p, int stride) {
  if constexpr (kBlock == 4) {
    const __m256 low = _mm256_set_m128(_mm_loadu_ps(p + stride), _mm_loadu_ps(p));
    const __m256 high = _mm256_set_m128(_mm_loadu_ps(p + 3 * stride), _mm_loadu_ps(p + 2 * stride));
    return _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
  } else {
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(p)),
                              _mm256_loadu_ps(p + stride), 1);
  }
}
template <int kBlock>
static inline void StoreBlocks(float* p, int stride, Vector v) {
  if constexpr (kBlock == 4) {
    _mm_storeu_ps(p, _mm512_castps512_ps128(v));
    _mm_storeu_ps(p + stride, _mm512_extractf32x4_ps(v, 1));
    _mm_storeu_ps(p + 2 * stride, _mm512_extractf32x4_ps(v, 2));
    _mm_storeu_ps(p + 3 * stride, _mm512_extractf32x4_ps(v, 3));
  } else {
    _mm256_storeu_ps(p, _mm512_castps512_ps256(v));
    _mm256_storeu_ps(p + stride, _mm512_extractf32x8_ps(v, 1));
  }
}

#include "turboquant/codec/cpu/rotation.inl"

}  // namespace tq::avx512
