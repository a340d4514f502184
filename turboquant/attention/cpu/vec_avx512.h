// SPDX-License-Identifier: Apache-2.0
// Sixteen floats.
#pragma once

#include <cstddef>
#include <cstdint>

#include "turboquant/codec/cpu/intrinsics.h"

namespace tq::avx512 {

struct Vec {
  using F = __m512;
  static constexpr int kWidth = 16;
  static constexpr int kGemmRows = 6;
  static constexpr int kGemmVectors = 4;

  static F Zero() { return _mm512_setzero_ps(); }
  static F Set1(float x) { return _mm512_set1_ps(x); }
  static F Load(const float* p) { return _mm512_loadu_ps(p); }
  static void Store(float* p, F x) { _mm512_storeu_ps(p, x); }
  static F Add(F a, F b) { return _mm512_add_ps(a, b); }
  static F Mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F Fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F Max(F a, F b) { return _mm512_max_ps(a, b); }
  static float Sum(F a) { return _mm512_reduce_add_ps(a); }
  static float Largest(F a) { return _mm512_reduce_max_ps(a); }

  // 2^x for x <= 127, 0 below -126: polynomial of 2^f on [-1/2, 1/2], relative error 2e-7.
  static F Exp2(F x) {
    const __mmask16 alive = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-126.0f), _CMP_GE_OQ);
    const F n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const F f = _mm512_sub_ps(x, n);
    F p = _mm512_set1_ps(1.5403530e-4f);
    p = Fma(p, f, _mm512_set1_ps(1.3333558e-3f));
    p = Fma(p, f, _mm512_set1_ps(9.6181291e-3f));
    p = Fma(p, f, _mm512_set1_ps(5.5504109e-2f));
    p = Fma(p, f, _mm512_set1_ps(2.4022651e-1f));
    p = Fma(p, f, _mm512_set1_ps(6.9314718e-1f));
    p = Fma(p, f, _mm512_set1_ps(1.0f));
    return _mm512_maskz_scalef_ps(alive, p, n);
  }

  static F LoadHalf(const std::byte* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static F LoadBf16(const std::byte* p) {
    const __m512i wide =
        _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
  }
  static F LoadInt8(const std::byte* p) {
    return _mm512_cvtepi32_ps(
        _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
  static F LoadNibbles(const std::byte* p, bool high) {
    __m512i wide = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    wide = high ? _mm512_srli_epi32(wide, 4) : _mm512_and_si512(wide, _mm512_set1_epi32(15));
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(wide, _mm512_set1_epi32(8)));
  }
};

}  // namespace tq::avx512
