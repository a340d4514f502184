// SPDX-License-Identifier: Apache-2.0
// Eight floats.
#pragma once

#include <cstddef>
#include <cstdint>

#include "turboquant/codec/cpu/intrinsics.h"

namespace tq::avx2 {

struct Vec {
  using F = __m256;
  static constexpr int kWidth = 8;
  static constexpr int kGemmRows = 6;
  static constexpr int kGemmVectors = 2;

  static F Zero() { return _mm256_setzero_ps(); }
  static F Set1(float x) { return _mm256_set1_ps(x); }
  static F Load(const float* p) { return _mm256_loadu_ps(p); }
  static void Store(float* p, F x) { _mm256_storeu_ps(p, x); }
  static F Add(F a, F b) { return _mm256_add_ps(a, b); }
  static F Mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F Fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F Max(F a, F b) { return _mm256_max_ps(a, b); }
  static float Sum(F a) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
  }
  static float Largest(F a) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
  }

  // 2^x for x <= 127, 0 below -126: polynomial of 2^f on [-1/2, 1/2], relative error 2e-7.
  static F Exp2(F x) {
    const F alive = _mm256_cmp_ps(x, _mm256_set1_ps(-126.0f), _CMP_GE_OQ);
    const F clamped = _mm256_max_ps(x, _mm256_set1_ps(-126.0f));
    const F n = _mm256_round_ps(clamped, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const F f = _mm256_sub_ps(clamped, n);
    F p = _mm256_set1_ps(1.5403530e-4f);
    p = Fma(p, f, _mm256_set1_ps(1.3333558e-3f));
    p = Fma(p, f, _mm256_set1_ps(9.6181291e-3f));
    p = Fma(p, f, _mm256_set1_ps(5.5504109e-2f));
    p = Fma(p, f, _mm256_set1_ps(2.4022651e-1f));
    p = Fma(p, f, _mm256_set1_ps(6.9314718e-1f));
    p = Fma(p, f, _mm256_set1_ps(1.0f));
    const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    const __m256i scaled = _mm256_add_epi32(_mm256_castps_si256(p), exponent);
    return _mm256_and_ps(_mm256_castsi256_ps(scaled), alive);
  }

  static F LoadHalf(const std::byte* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static F LoadBf16(const std::byte* p) {
    const __m256i wide =
        _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
  }
  static F LoadInt8(const std::byte* p) {
    return _mm256_cvtepi32_ps(
        _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
  }
  static F LoadNibbles(const std::byte* p, bool high) {
    __m256i wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    wide = high ? _mm256_srli_epi32(wide, 4) : _mm256_and_si256(wide, _mm256_set1_epi32(15));
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(wide, _mm256_set1_epi32(8)));
  }
};

}  // namespace tq::avx2
