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
// Bits of two masks at once, and where ring i of the first or second has its own.
static inline uint64_t BitsOfPair(MaskU even, MaskU odd) {
  return static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_packs_epi16(even, odd)));
}
static inline int BitPlace(int ring, int odd) { return ring / 8 * 16 + odd * 8 + ring % 8; }
