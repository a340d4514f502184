// SPDX-License-Identifier: Apache-2.0
// The vector operations of the linear kernels on AVX2: a vector is half a plane, 8 rows.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace tq::avx2 {
namespace {  // no weak symbols

struct Vec {
  using Bytes = __m256i;
  using Ints = __m256i;
  using Floats = __m256;
  static constexpr int kLanes = 8;
  static constexpr int kInt8Tokens = 4;
  static constexpr int kFloatTokens = 8;

  static Bytes LoadBytes(const uint8_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  template <int kMask>
  static Bytes And(Bytes v) {
    return _mm256_and_si256(v, _mm256_set1_epi8(kMask));
  }
  template <int kShift, int kMask>
  static Bytes ShiftMask(Bytes v) {
    if constexpr (kShift > 0) v = _mm256_slli_epi16(v, kShift);
    if constexpr (kShift < 0) v = _mm256_srli_epi16(v, -kShift);
    return And<kMask>(v);
  }
  static Bytes Or(Bytes a, Bytes b) { return _mm256_or_si256(a, b); }
  static Bytes LookUp16(const uint8_t* table, Bytes v) {
    return _mm256_shuffle_epi8(
        _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table))), v);
  }

  static Ints Zero() { return _mm256_setzero_si256(); }
  template <int kLog2>
  static Ints BroadcastShifted(const int32_t* p) {
    return _mm256_slli_epi32(_mm256_set1_epi32(*p), kLog2);
  }
  // Sums of pairs of products stay at 16 bits for as many vectors as cannot overflow (8 of 4-bit
  // codes, 2 of 6-bit ones), then become 32 bits. Codes above 63 are made signed, at most 128 in
  // magnitude, and their sign is moved to x (2 * 128 * 127 fits).
  using Sums = __m256i;
  template <int kMaxCode>
  static constexpr int kVectorsThatFit = kMaxCode > 63 ? 1 : 32767 / (2 * 128 * kMaxCode);
  static Bytes BroadcastCodes(const int8_t* x) {
    return _mm256_set1_epi32(*reinterpret_cast<const int32_t*>(x));
  }
  template <int kMaxCode>
  static Sums Accumulate(Sums sums, Bytes codes, Bytes x) {
    if constexpr (kMaxCode > 63) {
      codes = _mm256_xor_si256(codes, _mm256_set1_epi8(-128));
      x = _mm256_sign_epi8(x, codes);
      codes = _mm256_abs_epi8(codes);
    }
    sums = _mm256_add_epi16(sums, _mm256_maddubs_epi16(codes, x));
    asm("" : "+x"(sums));  // GCC would turn the chain into a tree, and spill all products for it
    return sums;
  }
  static Ints Widen(Ints acc, Sums sums) {
    return _mm256_add_epi32(acc, _mm256_madd_epi16(sums, _mm256_set1_epi16(1)));
  }
  static constexpr bool kWideIsSigned = true;
  static Floats ToFloat(Ints v) { return _mm256_cvtepi32_ps(v); }
  template <int kByte>
  static Floats ByteToFloat(Bytes v) {
    return _mm256_cvtepi32_ps(
        _mm256_and_si256(_mm256_srli_epi32(v, 8 * kByte), _mm256_set1_epi32(255)));
  }

  static Floats ZeroFloat() { return _mm256_setzero_ps(); }
  static Floats Broadcast(const float* p) { return _mm256_broadcast_ss(p); }
  static Floats Set(float f) { return _mm256_set1_ps(f); }
  static Floats Mul(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  static Floats Add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
  static Floats Sub(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
  static Floats Fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
  static Floats Load(const float* p) { return _mm256_loadu_ps(p); }
  static void Store(float* p, Floats v) { _mm256_storeu_ps(p, v); }
  static __m128i Load8(const uint8_t* p) {
    return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  }
  static Floats LoadHalf(const uint8_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static Floats LoadBf16(const uint8_t* p) {
    const __m256i wide =
        _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
  }
  static Floats LoadU8(const uint8_t* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(Load8(p)));
  }
  static Floats LoadS8(const uint8_t* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(Load8(p)));
  }
  static Floats LoadLowNibble(const uint8_t* p) {
    return _mm256_cvtepi32_ps(
        _mm256_and_si256(_mm256_cvtepu8_epi32(Load8(p)), _mm256_set1_epi32(15)));
  }
  static Floats LoadHighNibble(const uint8_t* p) {
    return _mm256_cvtepi32_ps(_mm256_srli_epi32(_mm256_cvtepu8_epi32(Load8(p)), 4));
  }
};

}  // namespace
}  // namespace tq::avx2
