// SPDX-License-Identifier: Apache-2.0
// Sixteen floats or ints at once as two AVX2 vectors. Included inside namespace tq::avx2;
// f16_avx512.inl has the same names.

struct F16 {
  __m256 a, b;
};
struct I16 {
  __m256i a, b;
};

static inline F16 LoadF(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
static inline void StoreF(float* p, F16 x) {
  _mm256_storeu_ps(p, x.a);
  _mm256_storeu_ps(p + 8, x.b);
}
static inline F16 SetF(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
static inline F16 AddF(F16 x, F16 y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
static inline F16 SubF(F16 x, F16 y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
static inline F16 MulF(F16 x, F16 y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
static inline F16 DivF(F16 x, F16 y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
static inline F16 MaxF(F16 x, F16 y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
static inline F16 AbsF(F16 x) {
  const __m256 mask = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  return {_mm256_and_ps(x.a, mask), _mm256_and_ps(x.b, mask)};
}
static inline F16 ClampF(F16 x, float limit) {
  const __m256 low = _mm256_set1_ps(-limit), high = _mm256_set1_ps(limit);
  return {_mm256_min_ps(_mm256_max_ps(x.a, low), high),
          _mm256_min_ps(_mm256_max_ps(x.b, low), high)};
}
static inline F16 NanToZero(F16 x) {
  return {_mm256_and_ps(x.a, _mm256_cmp_ps(x.a, x.a, _CMP_ORD_Q)),
          _mm256_and_ps(x.b, _mm256_cmp_ps(x.b, x.b, _CMP_ORD_Q))};
}
static inline float MaxOf(F16 x) {
  const __m256 m8 = _mm256_max_ps(x.a, x.b);
  const __m128 m4 = _mm_max_ps(_mm256_castps256_ps128(m8), _mm256_extractf128_ps(m8, 1));
  const __m128 m2 = _mm_max_ps(m4, _mm_movehl_ps(m4, m4));
  return _mm_cvtss_f32(_mm_max_ss(m2, _mm_movehdup_ps(m2)));
}

// The tree of the format: i + 8, then + 4, + 2, + 1.
static inline float SumTree(F16 x) {
  const __m256 s8 = _mm256_add_ps(x.a, x.b);
  const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
}

static inline F16 LoadBytes(const void* p) {
  const __m128i bytes = _mm_loadu_si128(static_cast<const __m128i*>(p));
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
          _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8)))};
}
static inline F16 LoadHalves(const void* p) {
  const auto* halves = static_cast<const __m128i*>(p);
  return {_mm256_cvtph_ps(_mm_loadu_si128(halves)), _mm256_cvtph_ps(_mm_loadu_si128(halves + 1))};
}
static inline void StoreHalves(void* p, F16 x) {
  auto* halves = static_cast<__m128i*>(p);
  _mm_storeu_si128(halves, _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128(halves + 1, _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT));
}
static inline F16 LoadBFloat16(const void* p) {
  const auto* halves = static_cast<const __m128i*>(p);
  return {
      _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(halves)), 16)),
      _mm256_castsi256_ps(
          _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(halves + 1)), 16))};
}
static inline __m256i RoundToBFloat16(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  return _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, odd), _mm256_set1_epi32(0x7fff)),
                           16);
}
static inline void StoreBFloat16(void* p, F16 x) {
  const __m256i packed = _mm256_packus_epi32(RoundToBFloat16(x.a), RoundToBFloat16(x.b));
  _mm256_storeu_si256(static_cast<__m256i*>(p), _mm256_permute4x64_epi64(packed, 0xD8));
}

static inline I16 SetI(int x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
static inline I16 AddI(I16 x, I16 y) {
  return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)};
}
static inline I16 MinI(I16 x, I16 y) {
  return {_mm256_min_epi32(x.a, y.a), _mm256_min_epi32(x.b, y.b)};
}
static inline __m256i RoundHalfEven(__m256 x) {
  return _mm256_cvttps_epi32(_mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
static inline I16 RoundI(F16 x) { return {RoundHalfEven(x.a), RoundHalfEven(x.b)}; }
static inline I16 TruncateI(F16 x) { return {_mm256_cvttps_epi32(x.a), _mm256_cvttps_epi32(x.b)}; }
// Values in -128..127.
static inline void StoreBytes(void* p, I16 x) {
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(x.a, x.b), 0xD8);
  _mm_storeu_si128(static_cast<__m128i*>(p), _mm_packs_epi16(_mm256_castsi256_si128(words),
                                                             _mm256_extracti128_si256(words, 1)));
}
// count + 1 where x > y.
static inline I16 CountGreater(I16 count, F16 x, F16 y) {
  return {_mm256_sub_epi32(count.a, _mm256_castps_si256(_mm256_cmp_ps(x.a, y.a, _CMP_GT_OQ))),
          _mm256_sub_epi32(count.b, _mm256_castps_si256(_mm256_cmp_ps(x.b, y.b, _CMP_GT_OQ)))};
}
// x ^ bits where y < 0.
static inline I16 XorWhereNegative(I16 x, F16 y, int bits) {
  const __m256 zero = _mm256_setzero_ps();
  const __m256i wide = _mm256_set1_epi32(bits);
  const __m256i a = _mm256_castps_si256(_mm256_cmp_ps(y.a, zero, _CMP_LT_OQ));
  const __m256i b = _mm256_castps_si256(_mm256_cmp_ps(y.b, zero, _CMP_LT_OQ));
  return {_mm256_xor_si256(x.a, _mm256_and_si256(a, wide)),
          _mm256_xor_si256(x.b, _mm256_and_si256(b, wide))};
}
// table[x], x in 0..7.
static inline I16 Lookup8(const int* table, I16 x) {
  const __m256i t = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(table));
  return {_mm256_permutevar8x32_epi32(t, x.a), _mm256_permutevar8x32_epi32(t, x.b)};
}
static inline int SumOf(I16 x) {
  const __m256i s8 = _mm256_add_epi32(x.a, x.b);
  const __m128i s4 = _mm_add_epi32(_mm256_castsi256_si128(s8), _mm256_extracti128_si256(s8, 1));
  const __m128i s2 = _mm_add_epi32(s4, _mm_shuffle_epi32(s4, 0x4E));
  return _mm_cvtsi128_si32(_mm_add_epi32(s2, _mm_shuffle_epi32(s2, 0xB1)));
}
// The first of 16 where x equals y; 16 if none.
static inline int FirstEqual(F16 x, F16 y) {
  const auto a = static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(x.a, y.a, _CMP_EQ_OQ)));
  const auto b = static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(x.b, y.b, _CMP_EQ_OQ)));
  return __builtin_ctz(a | b << 8 | 0x10000u);
}
