// SPDX-License-Identifier: Apache-2.0
// The few vector operations of the linear kernels on AVX-512 (VNNI): a vector is one 64-byte plane,
// 16 rows.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace tq::avx512 {
namespace {  // no weak symbols

struct Vec {
  using Bytes = __m512i;
  using Ints = __m512i;
  using Floats = __m512;
  static constexpr int kLanes = 16;
  static constexpr int kInt8Tokens = 16;  // tokens in registers at once
  static constexpr int kFloatTokens = 16;

  static Bytes LoadBytes(const uint8_t* p) { return _mm512_loadu_si512(p); }
  template <int kMask>
  static Bytes And(Bytes v) {
    return _mm512_and_si512(v, _mm512_set1_epi8(kMask));
  }
  // (v << kShift) & kMask per byte; negative: to the right. The mask covers no bit that crosses
  // bytes.
  template <int kShift, int kMask>
  static Bytes ShiftMask(Bytes v) {
    if constexpr (kShift > 0) v = _mm512_slli_epi16(v, kShift);
    if constexpr (kShift < 0) v = _mm512_srli_epi16(v, -kShift);
    return And<kMask>(v);
  }
  static Bytes Or(Bytes a, Bytes b) { return _mm512_or_si512(a, b); }
  static Bytes LookUp16(const uint8_t* table, Bytes v) {
    return _mm512_shuffle_epi8(
        _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table))), v);
  }

  static Ints Zero() { return _mm512_setzero_si512(); }
  template <int kLog2>
  static Ints BroadcastShifted(const int32_t* p) {
    return _mm512_slli_epi32(_mm512_set1_epi32(*p), kLog2);
  }
  // sums[lane] += sum over the 4 bytes of the lane of unsigned code * signed x.
  using Sums = __m512i;
  template <int kMaxCode>
  static constexpr int kVectorsThatFit = 8;
  static Bytes BroadcastCodes(const int8_t* x) {
    return _mm512_set1_epi32(*reinterpret_cast<const int32_t*>(x));
  }
  template <int kMaxCode>
  static Sums Accumulate(Sums sums, Bytes codes, Bytes x) {
    return _mm512_dpbusd_epi32(sums, codes, x);
  }
  static Ints Widen(Ints acc, Sums sums) { return _mm512_add_epi32(acc, sums); }
  static constexpr bool kWideIsSigned =
      false;  // whether Accumulate subtracts 128 from codes above 63
  static Floats ToFloat(Ints v) { return _mm512_cvtepi32_ps(v); }
  template <int kByte>
  static Floats ByteToFloat(Bytes v) {
    return _mm512_cvtepi32_ps(
        _mm512_and_si512(_mm512_srli_epi32(v, 8 * kByte), _mm512_set1_epi32(255)));
  }

  static Floats ZeroFloat() { return _mm512_setzero_ps(); }
  static Floats Broadcast(const float* p) { return _mm512_set1_ps(*p); }
  static Floats Set(float f) { return _mm512_set1_ps(f); }
  static Floats Mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static Floats Add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  static Floats Sub(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
  static Floats Fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
  static Floats Load(const float* p) { return _mm512_loadu_ps(p); }
  static void Store(float* p, Floats v) { _mm512_storeu_ps(p, v); }
  static __m128i Load16(const uint8_t* p) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  }
  static Floats LoadHalf(const uint8_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static Floats LoadBf16(const uint8_t* p) {
    const __m512i wide =
        _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
  }
  static Floats LoadU8(const uint8_t* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(Load16(p)));
  }
  static Floats LoadS8(const uint8_t* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(Load16(p)));
  }
  static Floats LoadLowNibble(const uint8_t* p) {
    return _mm512_cvtepi32_ps(
        _mm512_and_si512(_mm512_cvtepu8_epi32(Load16(p)), _mm512_set1_epi32(15)));
  }
  static Floats LoadHighNibble(const uint8_t* p) {
    return _mm512_cvtepi32_ps(_mm512_srli_epi32(_mm512_cvtepu8_epi32(Load16(p)), 4));
  }
};

}  // namespace
}  // namespace tq::avx512
