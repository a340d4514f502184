// SPDX-License-Identifier: Apache-2.0
// Sixteen unsigned 16-bit integers: one of each ring. u16_avx512.inl has the same names.

static constexpr int kRings = 16;
using U16 = __m256i;

static inline U16 LoadU(const void* p) { return _mm256_load_si256(static_cast<const __m256i*>(p)); }
static inline void StoreU(void* p, U16 x) { _mm256_store_si256(static_cast<__m256i*>(p), x); }
static inline U16 SetU(int x) { return _mm256_set1_epi16(static_cast<int16_t>(x)); }
static inline U16 AddU(U16 x, U16 y) { return _mm256_add_epi16(x, y); }
static inline U16 SubU(U16 x, U16 y) { return _mm256_sub_epi16(x, y); }
static inline U16 MinU(U16 x, U16 y) { return _mm256_min_epu16(x, y); }
static inline U16 SquareU(U16 x) { return _mm256_mullo_epi16(x, x); }
static inline U16 AbsU(U16 x) { return _mm256_abs_epi16(x); }
template <int kBits>
static inline U16 ShiftRightU(U16 x) {
  return _mm256_srli_epi16(x, kBits);
}
// mask ? x : y, where mask is what EqualU and GreaterSigned give.
using MaskU = __m256i;
static inline MaskU EqualU(U16 x, U16 y) { return _mm256_cmpeq_epi16(x, y); }
static inline MaskU GreaterSigned(U16 x, U16 y) { return _mm256_cmpgt_epi16(x, y); }
static inline U16 SelectU(MaskU mask, U16 x, U16 y) { return _mm256_blendv_epi8(y, x, mask); }
static inline U16 MaskedU(MaskU mask, U16 x) { return _mm256_and_si256(mask, x); }
static inline U16 AndU(U16 x, U16 y) { return _mm256_and_si256(x, y); }
static inline U16 AndNotU(U16 x, U16 y) { return _mm256_andnot_si256(x, y); }
static inline U16 OrU(U16 x, U16 y) { return _mm256_or_si256(x, y); }
static inline U16 XorU(U16 x, U16 y) { return _mm256_xor_si256(x, y); }
template <int kBits>
static inline U16 ShiftLeftU(U16 x) {
  return _mm256_slli_epi16(x, kBits);
}
// table[x] for x < 16; table[0] must be 0.
static inline U16 LookUpU(const uint8_t* table, U16 x) {
  const __m128i bytes = _mm_load_si128(reinterpret_cast<const __m128i*>(table));
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bytes), x);
}
// The low bytes.
static inline void StoreBytesU(void* p, U16 x) {
  const U16 low = AndU(x, SetU(255));
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi16(low, low), 0x08);
  _mm_store_si128(static_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
}
