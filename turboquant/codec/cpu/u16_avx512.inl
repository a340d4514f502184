// SPDX-License-Identifier: Apache-2.0
// Thirty-two unsigned 16-bit integers: one of each ring. u16_avx2.inl has the same names.

static constexpr int kRings = 32;
using U16 = __m512i;

static inline U16 LoadU(const void* p) { return _mm512_load_si512(p); }
static inline void StoreU(void* p, U16 x) { _mm512_store_si512(p, x); }
static inline U16 SetU(int x) { return _mm512_set1_epi16(static_cast<int16_t>(x)); }
static inline U16 AddU(U16 x, U16 y) { return _mm512_add_epi16(x, y); }
static inline U16 SubU(U16 x, U16 y) { return _mm512_sub_epi16(x, y); }
static inline U16 MinU(U16 x, U16 y) { return _mm512_min_epu16(x, y); }
static inline U16 SquareU(U16 x) { return _mm512_mullo_epi16(x, x); }
static inline U16 AbsU(U16 x) { return _mm512_abs_epi16(x); }
template <int kBits>
static inline U16 ShiftRightU(U16 x) {
  return _mm512_srli_epi16(x, kBits);
}
// mask ? x : y, where mask is what EqualU and GreaterSigned give.
using MaskU = __mmask32;
static inline MaskU EqualU(U16 x, U16 y) { return _mm512_cmpeq_epi16_mask(x, y); }
static inline MaskU GreaterSigned(U16 x, U16 y) { return _mm512_cmpgt_epi16_mask(x, y); }
static inline U16 SelectU(MaskU mask, U16 x, U16 y) { return _mm512_mask_mov_epi16(y, mask, x); }
static inline U16 MaskedU(MaskU mask, U16 x) { return _mm512_maskz_mov_epi16(mask, x); }
static inline U16 AndU(U16 x, U16 y) { return _mm512_and_si512(x, y); }
static inline U16 AndNotU(U16 x, U16 y) { return _mm512_andnot_si512(x, y); }
static inline U16 OrU(U16 x, U16 y) { return _mm512_or_si512(x, y); }
static inline U16 XorU(U16 x, U16 y) { return _mm512_xor_si512(x, y); }
template <int kBits>
static inline U16 ShiftLeftU(U16 x) {
  return _mm512_slli_epi16(x, kBits);
}
static inline U16 LookUpU(const uint8_t* table, U16 x) {
  const __m128i bytes = _mm_load_si128(reinterpret_cast<const __m128i*>(table));
  return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(bytes), x);
}
static inline void StoreBytesU(void* p, U16 x) {
  _mm256_store_si256(static_cast<__m256i*>(p), _mm512_cvtepi16_epi8(x));
}
