// SPDX-License-Identifier: Apache-2.0
// Sixteen floats or ints at once, AVX-512. Included inside namespace tq::avx512; f16_avx2.inl has
// the same names.

struct F16 {
  __m512 v;
};
struct I16 {
  __m512i v;
};

static inline F16 LoadF(const float* p) { return {_mm512_loadu_ps(p)}; }
static inline void StoreF(float* p, F16 a) { _mm512_storeu_ps(p, a.v); }
static inline F16 SetF(float x) { return {_mm512_set1_ps(x)}; }
static inline F16 AddF(F16 a, F16 b) { return {_mm512_add_ps(a.v, b.v)}; }
static inline F16 SubF(F16 a, F16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
static inline F16 MulF(F16 a, F16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
static inline F16 DivF(F16 a, F16 b) { return {_mm512_div_ps(a.v, b.v)}; }
static inline F16 MaxF(F16 a, F16 b) { return {_mm512_max_ps(a.v, b.v)}; }
static inline F16 AbsF(F16 a) { return {_mm512_abs_ps(a.v)}; }
static inline F16 ClampF(F16 a, float limit) {
  return {_mm512_min_ps(_mm512_max_ps(a.v, _mm512_set1_ps(-limit)), _mm512_set1_ps(limit))};
}
static inline F16 NanToZero(F16 a) {
  return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a.v, a.v, _CMP_ORD_Q), a.v)};
}
static inline float MaxOf(F16 a) { return _mm512_reduce_max_ps(a.v); }

// The tree of the format: i + 8, then + 4, + 2, + 1.
static inline float SumTree(F16 a) {
  const __m256 s8 = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
}

static inline __m512i LoadInts8(const void* p) {
  return _mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}
static inline F16 LoadBytes(const void* p) { return {_mm512_cvtepi32_ps(LoadInts8(p))}; }
static inline F16 LoadHalves(const void* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)))};
}
static inline void StoreHalves(void* p, F16 a) {
  _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT));
}
static inline F16 LoadBFloat16(const void* p) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16))};
}
static inline void StoreBFloat16(void* p, F16 a) {
  const __m512i bits = _mm512_castps_si512(a.v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, odd), _mm512_set1_epi32(0x7fff));
  _mm256_storeu_si256(static_cast<__m256i*>(p),
                      _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
}

static inline I16 SetI(int x) { return {_mm512_set1_epi32(x)}; }
static inline I16 AddI(I16 a, I16 b) { return {_mm512_add_epi32(a.v, b.v)}; }
static inline I16 MinI(I16 a, I16 b) { return {_mm512_min_epi32(a.v, b.v)}; }
static inline I16 RoundI(F16 a) {  // half to even
  return {_mm512_cvt_roundps_epi32(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
static inline I16 TruncateI(F16 a) { return {_mm512_cvttps_epi32(a.v)}; }
static inline void StoreBytes(void* p, I16 a) {
  _mm_storeu_si128(static_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a.v));
}
// count + 1 where a > b.
static inline I16 CountGreater(I16 count, F16 a, F16 b) {
  return {_mm512_mask_add_epi32(count.v, _mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ), count.v,
                                _mm512_set1_epi32(1))};
}
// a ^ bits where y < 0.
static inline I16 XorWhereNegative(I16 a, F16 y, int bits) {
  return {_mm512_mask_xor_epi32(a.v, _mm512_cmp_ps_mask(y.v, _mm512_setzero_ps(), _CMP_LT_OQ), a.v,
                                _mm512_set1_epi32(bits))};
}
// table[a], a in 0..7.
static inline I16 Lookup8(const int* table, I16 a) {
  const __m512i t =
      _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(table)));
  return {_mm512_permutexvar_epi32(a.v, t)};
}
static inline int SumOf(I16 a) { return _mm512_reduce_add_epi32(a.v); }
// The first of 16 where a equals b; 16 if none.
static inline int FirstEqual(F16 a, F16 b) {
  return __builtin_ctz(_mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ) | 0x10000u);
}
