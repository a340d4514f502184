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
template <int kBits>
static inline U16 ShiftRightU(U16 x) {
  return _mm256_srli_epi16(x, kBits);
}
template <int kBits>
static inline U16 ShiftLeftU(U16 x) {
  return _mm256_slli_epi16(x, kBits);
}
// mask ? x : y, where mask is what EqualU gives.
using MaskU = __m256i;
static inline MaskU EqualU(U16 x, U16 y) { return _mm256_cmpeq_epi16(x, y); }
static inline U16 SelectU(MaskU mask, U16 x, U16 y) { return _mm256_blendv_epi8(y, x, mask); }
static inline U16 MaskedU(MaskU mask, U16 x) { return _mm256_and_si256(mask, x); }
static inline U16 AndU(U16 x, U16 y) { return _mm256_and_si256(x, y); }
static inline U16 OrU(U16 x, U16 y) { return _mm256_or_si256(x, y); }
static inline U16 XorU(U16 x, U16 y) { return _mm256_xor_si256(x, y); }
// table[x] for x < 32.
static inline U16 LookUp32U(const int8_t* table, U16 x) {
  const auto half = [&](int i) {
    const __m128i* bytes = reinterpret_cast<const __m128i*>(table) + i;
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_load_si128(bytes)), x);
  };
  return _mm256_blendv_epi8(half(0), half(1), _mm256_slli_epi16(x, 3));
}
// The low bytes.
static inline void StoreBytesU(void* p, U16 x) {
  const U16 low = AndU(x, SetU(255));
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi16(low, low), 0x08);
  _mm_store_si128(static_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
}
// Signed from here on. Bytes.
static inline U16 LoadBytesU(const void* p) {
  return _mm256_cvtepi8_epi16(_mm_load_si128(static_cast<const __m128i*>(p)));
}
static inline U16 ScaledU(U16 x, U16 factor) {  // TrellisScaled
  return _mm256_mulhrs_epi16(x, factor);
}
static inline U16 ClampU(U16 x, int limit) {
  return _mm256_max_epi16(_mm256_min_epi16(x, SetU(limit)), SetU(-limit));
}
// Of each element 32 bits, in an order of their own.
struct SumsU {
  U16 low, high;
};
// sums += x y + x2 y2.
static inline void AddProductsU(U16 x, U16 y, U16 x2, U16 y2, SumsU& sums) {
  const U16 low = _mm256_madd_epi16(_mm256_unpacklo_epi16(x, x2), _mm256_unpacklo_epi16(y, y2));
  const U16 high = _mm256_madd_epi16(_mm256_unpackhi_epi16(x, x2), _mm256_unpackhi_epi16(y, y2));
  sums = {_mm256_add_epi32(sums.low, low), _mm256_add_epi32(sums.high, high)};
}
static inline void StoreSumsU(int32_t* p, const SumsU& sums) {
  StoreU(p, _mm256_permute2x128_si256(sums.low, sums.high, 0x20));
  StoreU(p + 8, _mm256_permute2x128_si256(sums.low, sums.high, 0x31));
}

// Rows of 8 elements to columns: out [kColumns] of table[index[ring]].
template <int kColumns, class Row>
static inline void GatherRows(const Row* table, const int16_t* index, uint16_t (*out)[kRings]) {
  U16 rows[8], pairs[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    const auto row = [&](int ring) {
      return _mm_load_si128(reinterpret_cast<const __m128i*>(table + index[ring]));
    };
    rows[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(row(i)), row(i + 8), 1);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    pairs[i] = _mm256_unpacklo_epi16(rows[2 * i], rows[2 * i + 1]);
    pairs[i + 4] = _mm256_unpackhi_epi16(rows[2 * i], rows[2 * i + 1]);
  }
#pragma GCC unroll 2
  for (int half = 0; half < kColumns / 4; ++half) {
    const U16* p = pairs + 4 * half;
    const U16 a = _mm256_unpacklo_epi32(p[0], p[1]), b = _mm256_unpackhi_epi32(p[0], p[1]);
    const U16 c = _mm256_unpacklo_epi32(p[2], p[3]), d = _mm256_unpackhi_epi32(p[2], p[3]);
    StoreU(out[4 * half], _mm256_unpacklo_epi64(a, c));
    StoreU(out[4 * half + 1], _mm256_unpackhi_epi64(a, c));
    StoreU(out[4 * half + 2], _mm256_unpacklo_epi64(b, d));
    StoreU(out[4 * half + 3], _mm256_unpackhi_epi64(b, d));
  }
}
