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
template <int kBits>
static inline U16 ShiftRightU(U16 x) {
  return _mm512_srli_epi16(x, kBits);
}
template <int kBits>
static inline U16 ShiftLeftU(U16 x) {
  return _mm512_slli_epi16(x, kBits);
}
// mask ? x : y, where mask is what EqualU gives.
using MaskU = __mmask32;
static inline MaskU EqualU(U16 x, U16 y) { return _mm512_cmpeq_epi16_mask(x, y); }
static inline U16 SelectU(MaskU mask, U16 x, U16 y) { return _mm512_mask_mov_epi16(y, mask, x); }
static inline U16 MaskedU(MaskU mask, U16 x) { return _mm512_maskz_mov_epi16(mask, x); }
static inline U16 AndU(U16 x, U16 y) { return _mm512_and_si512(x, y); }
static inline U16 OrU(U16 x, U16 y) { return _mm512_or_si512(x, y); }
static inline U16 XorU(U16 x, U16 y) { return _mm512_xor_si512(x, y); }
static inline U16 LookUp32U(const int8_t* table, U16 x) {
  const auto half = [&](int i) {
    const __m128i* bytes = reinterpret_cast<const __m128i*>(table) + i;
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_load_si128(bytes)), x);
  };
  return SelectU(_mm512_test_epi16_mask(x, SetU(16)), half(1), half(0));
}
static inline void StoreBytesU(void* p, U16 x) {
  _mm256_store_si256(static_cast<__m256i*>(p), _mm512_cvtepi16_epi8(x));
}
static inline U16 LoadBytesU(const void* p) {
  return _mm512_cvtepi8_epi16(_mm256_load_si256(static_cast<const __m256i*>(p)));
}
static inline U16 ScaledU(U16 x, U16 factor) { return _mm512_mulhrs_epi16(x, factor); }
static inline U16 ClampU(U16 x, int limit) {
  return _mm512_max_epi16(_mm512_min_epi16(x, SetU(limit)), SetU(-limit));
}
struct SumsU {
  U16 low, high;
};
static inline void AddProductsU(U16 x, U16 y, U16 x2, U16 y2, SumsU& sums) {
  const U16 low = _mm512_madd_epi16(_mm512_unpacklo_epi16(x, x2), _mm512_unpacklo_epi16(y, y2));
  const U16 high = _mm512_madd_epi16(_mm512_unpackhi_epi16(x, x2), _mm512_unpackhi_epi16(y, y2));
  sums = {_mm512_add_epi32(sums.low, low), _mm512_add_epi32(sums.high, high)};
}
static inline void StoreSumsU(int32_t* p, const SumsU& sums) {
  const __m512i first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
  const __m512i second = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
  StoreU(p, _mm512_permutex2var_epi64(sums.low, first, sums.high));
  StoreU(p + 16, _mm512_permutex2var_epi64(sums.low, second, sums.high));
}
template <int kColumns, class Row>
static inline void GatherRows(const Row* table, const int16_t* index, uint16_t (*out)[kRings]) {
  U16 rows[8], pairs[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    const auto row = [&](int ring) {
      return _mm_load_si128(reinterpret_cast<const __m128i*>(table + index[ring]));
    };
    rows[i] = _mm512_inserti32x4(_mm512_castsi128_si512(row(i)), row(i + 8), 1);
    rows[i] = _mm512_inserti32x4(_mm512_inserti32x4(rows[i], row(i + 16), 2), row(i + 24), 3);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    pairs[i] = _mm512_unpacklo_epi16(rows[2 * i], rows[2 * i + 1]);
    pairs[i + 4] = _mm512_unpackhi_epi16(rows[2 * i], rows[2 * i + 1]);
  }
#pragma GCC unroll 2
  for (int half = 0; half < kColumns / 4; ++half) {
    const U16* p = pairs + 4 * half;
    const U16 a = _mm512_unpacklo_epi32(p[0], p[1]), b = _mm512_unpackhi_epi32(p[0], p[1]);
    const U16 c = _mm512_unpacklo_epi32(p[2], p[3]), d = _mm512_unpackhi_epi32(p[2], p[3]);
    StoreU(out[4 * half], _mm512_unpacklo_epi64(a, c));
    StoreU(out[4 * half + 1], _mm512_unpackhi_epi64(a, c));
    StoreU(out[4 * half + 2], _mm512_unpacklo_epi64(b, d));
    StoreU(out[4 * half + 3], _mm512_unpackhi_epi64(b, d));
  }
}
