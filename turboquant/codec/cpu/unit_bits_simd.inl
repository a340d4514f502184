// SPDX-License-Identifier: Apache-2.0
// Units to words and back, 32 codes at a time (unit_bits.h defines the bit order). 128- and 256-bit
// instructions serve AVX-512 as well: packing is a small part of the work.

static inline __m256i LoadCodes(const std::byte* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}

// Nibble k of word j = low four bits of code 8 j + k.
static inline __m128i Nibbles(__m256i codes) {
  const __m256i pairs = _mm256_maddubs_epi16(codes, _mm256_set1_epi16(0x1001));
  return _mm_packus_epi16(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
}
// Its inverse.
static inline __m256i FromNibbles(__m128i words) {
  const __m128i mask = _mm_set1_epi8(0x0f);
  const __m128i low = _mm_and_si128(words, mask);
  const __m128i high = _mm_and_si128(_mm_srli_epi16(words, 4), mask);
  return _mm256_set_m128i(_mm_unpackhi_epi8(low, high), _mm_unpacklo_epi8(low, high));
}

// Writes kBits words; for 3 bits one more word behind them is overwritten.
template <int kBits>
static inline void PackUnit(const std::byte* codes, std::byte* words) {
  const __m256i c = LoadCodes(codes);
  auto* out = reinterpret_cast<__m128i*>(words);
  if constexpr (kBits == 2) {
    const __m128i n = Nibbles(c);
    const __m128i both = _mm_or_si128(n, _mm_srli_epi64(n, 30));
    _mm_storel_epi64(out, _mm_shuffle_epi32(both, 0x08));
  } else if constexpr (kBits == 3) {
    const __m128i n = Nibbles(c);
    const __m128i last = _mm_srlv_epi32(_mm_shuffle_epi32(n, 0xFF), _mm_setr_epi32(0, 1, 2, 0));
    const __m128i spare = _mm_slli_epi32(_mm_and_si128(last, _mm_set1_epi32(0x11111111)), 3);
    _mm_storeu_si128(out, _mm_or_si128(n, spare));
  } else {
    const __m128i n = Nibbles(_mm256_and_si256(c, _mm256_set1_epi8(7)));
    const __m256i sign = _mm256_and_si256(c, _mm256_set1_epi8(8));
    const __m256i merged = _mm256_or_si256(_mm256_slli_epi64(sign, 4), _mm256_srli_epi64(sign, 32));
    const __m256i words4 =
        _mm256_permutevar8x32_epi32(merged, _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6));
    _mm_storeu_si128(out, _mm_or_si128(n, _mm256_castsi256_si128(words4)));
  }
}

// Level bytes (Codebook::SelectorTable; 4 bits: NOT for negative codes) of a unit. `table` holds
// the eight bytes twice. Reads 16 bytes of words whatever kBits.
template <int kBits>
static inline void UnpackUnit(const std::byte* words, __m256i table, std::byte* levels) {
  const __m128i w = _mm_loadu_si128(reinterpret_cast<const __m128i*>(words));
  __m256i result;
  if constexpr (kBits == 2) {
    const __m128i twice = _mm_srlv_epi32(_mm_shuffle_epi32(w, 0x50), _mm_setr_epi32(0, 2, 0, 2));
    result =
        _mm256_shuffle_epi8(table, FromNibbles(_mm_and_si128(twice, _mm_set1_epi32(0x33333333))));
  } else if constexpr (kBits == 3) {
    const __m128i spare = _mm_and_si128(_mm_srli_epi32(w, 3), _mm_set1_epi32(0x11111111));
    const __m128i placed = _mm_sllv_epi32(spare, _mm_setr_epi32(0, 1, 2, 32));
    const __m128i pair = _mm_or_si128(placed, _mm_shuffle_epi32(placed, 0xB1));
    const __m128i last = _mm_or_si128(pair, _mm_shuffle_epi32(pair, 0x4E));
    const __m128i n = _mm_blend_epi32(_mm_and_si128(w, _mm_set1_epi32(0x77777777)), last, 8);
    result = _mm256_shuffle_epi8(table, FromNibbles(n));
  } else {
    const __m256i magnitude =
        _mm256_shuffle_epi8(table, FromNibbles(_mm_and_si128(w, _mm_set1_epi32(0x77777777))));
    const __m256i wide = _mm256_cvtepu32_epi64(w);
    const __m256i signs = _mm256_or_si256(wide, _mm256_slli_epi64(wide, 36));
    result = _mm256_xor_si256(magnitude, _mm256_cmpgt_epi8(_mm256_setzero_si256(), signs));
  }
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(levels), result);
}
