// SPDX-License-Identifier: Apache-2.0
// Bytes of a tile between three orders: rows [token][dim]; lanes [32 lanes][units][32], every
// lane's stream of codes in one piece; and the stored order [piece][32 lanes][piece bytes].

// Lane (g, t) takes D/4 consecutive dims of tokens g, g + 8, ..
template <int kQuarter, bool kToLanes>
static inline void CopyKeys(const std::byte* from, std::byte* to, int tokens) {
  const int lane_bytes = kQuarter * tokens / 8;
  for (int token = 0; token < tokens; ++token) {
    for (int t = 0; t < 4; ++t) {
      const int row = (token * 4 + t) * kQuarter;
      const int lane = (token % 8 * 4 + t) * lane_bytes + token / 8 * kQuarter;
      __builtin_memcpy(to + (kToLanes ? lane : row), from + (kToLanes ? row : lane), kQuarter);
    }
  }
}

template <bool kToLanes>
static inline void ShuffleKeys(int head_dim, const std::byte* from, std::byte* to, int tokens) {
  switch (head_dim) {
    case 64:
      return CopyKeys<16, kToLanes>(from, to, tokens);
    case 80:
      return CopyKeys<20, kToLanes>(from, to, tokens);
    case 96:
      return CopyKeys<24, kToLanes>(from, to, tokens);
    case 112:
      return CopyKeys<28, kToLanes>(from, to, tokens);
    case 128:
      return CopyKeys<32, kToLanes>(from, to, tokens);
    case 192:
      return CopyKeys<48, kToLanes>(from, to, tokens);
    case 256:
      return CopyKeys<64, kToLanes>(from, to, tokens);
    default:
      return CopyKeys<128, kToLanes>(from, to, tokens);
  }
}

// Transposes 8 x 8 16-bit elements in both halves of the registers.
static inline void Transpose8x8(__m256i* x) {
  __m256i a[8], b[8];
  for (int i = 0; i < 4; ++i) {
    a[2 * i] = _mm256_unpacklo_epi16(x[2 * i], x[2 * i + 1]);
    a[2 * i + 1] = _mm256_unpackhi_epi16(x[2 * i], x[2 * i + 1]);
  }
  for (int i = 0; i < 2; ++i) {
    for (int j = 0; j < 2; ++j) {
      b[4 * i + 2 * j] = _mm256_unpacklo_epi32(a[4 * i + j], a[4 * i + 2 + j]);
      b[4 * i + 2 * j + 1] = _mm256_unpackhi_epi32(a[4 * i + j], a[4 * i + 2 + j]);
    }
  }
  for (int i = 0; i < 4; ++i) {
    x[2 * i] = _mm256_unpacklo_epi64(b[i], b[4 + i]);
    x[2 * i + 1] = _mm256_unpackhi_epi64(b[i], b[4 + i]);
  }
}

// 32 tokens x 16 dims of V rows to 16 bytes of each lane, `stride` apart: lane (g, t) byte 4 e + b
// is dim g + 8 (e & 1) of token 16 (e >> 1) + {2t, 2t + 8, 2t + 1, 2t + 9}[b]. Register halves hold
// the two halves of the tokens.
static inline void RowsToMTile(const std::byte* rows, int row_stride, std::byte* lanes,
                               int stride) {
  __m256i row[16], low[8], high[8];
  for (int i = 0; i < 16; ++i) {
    row[i] = _mm256_set_m128i(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows + (i + 16) * row_stride)),
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows + i * row_stride)));
  }
  for (int i = 0; i < 8; ++i) {  // pairs of tokens (i, i + 8) of dims 0..7 and 8..15
    low[i] = _mm256_unpacklo_epi8(row[i], row[i + 8]);
    high[i] = _mm256_unpackhi_epi8(row[i], row[i + 8]);
  }
  Transpose8x8(low);  // low[g]: dim g, tokens 0, 8, 1, 9, ..
  Transpose8x8(high);
  for (int g = 0; g < 8; ++g) {
    const __m256i t01 = _mm256_permute4x64_epi64(_mm256_unpacklo_epi32(low[g], high[g]), 0xD8);
    const __m256i t23 = _mm256_permute4x64_epi64(_mm256_unpackhi_epi32(low[g], high[g]), 0xD8);
    std::byte* out = lanes + 4 * g * stride;
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm256_castsi256_si128(t01));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + stride), _mm256_extracti128_si256(t01, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 2 * stride), _mm256_castsi256_si128(t23));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 3 * stride),
                     _mm256_extracti128_si256(t23, 1));
  }
}

static inline void MTileToRows(const std::byte* lanes, int stride, std::byte* rows,
                               int row_stride) {
  __m256i low[8], high[8];
  for (int g = 0; g < 8; ++g) {
    const std::byte* in = lanes + 4 * g * stride;
    __m128i t[4];
    for (int i = 0; i < 4; ++i)
      t[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i * stride));
    const __m256 t01 =
        _mm256_castsi256_ps(_mm256_permute4x64_epi64(_mm256_set_m128i(t[1], t[0]), 0xD8));
    const __m256 t23 =
        _mm256_castsi256_ps(_mm256_permute4x64_epi64(_mm256_set_m128i(t[3], t[2]), 0xD8));
    low[g] = _mm256_castps_si256(_mm256_shuffle_ps(t01, t23, 0x88));
    high[g] = _mm256_castps_si256(_mm256_shuffle_ps(t01, t23, 0xDD));
  }
  Transpose8x8(low);
  Transpose8x8(high);
  const __m256i byte = _mm256_set1_epi16(0xff);
  for (int i = 0; i < 8; ++i) {
    const __m256i first =
        _mm256_packus_epi16(_mm256_and_si256(low[i], byte), _mm256_and_si256(high[i], byte));
    const __m256i second =
        _mm256_packus_epi16(_mm256_srli_epi16(low[i], 8), _mm256_srli_epi16(high[i], 8));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(rows + i * row_stride),
                     _mm256_castsi256_si128(first));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(rows + (i + 16) * row_stride),
                     _mm256_extracti128_si256(first, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(rows + (i + 8) * row_stride),
                     _mm256_castsi256_si128(second));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(rows + (i + 24) * row_stride),
                     _mm256_extracti128_si256(second, 1));
  }
}

// Tokens of 32-token halves run fastest over m-tiles, 16-dim blocks slowest.
template <bool kToLanes>
static inline void ShuffleValues(int head_dim, const std::byte* from, std::byte* to, int tokens) {
  const int halves = tokens / 32;
  const int lane_bytes = head_dim * tokens / 32;
  for (int block = 0; block < head_dim / 16; ++block) {
    for (int half = 0; half < halves; ++half) {
      const int corner = 32 * half * head_dim + 16 * block;
      const int lane = 16 * (block * halves + half);
      if constexpr (kToLanes) {
        RowsToMTile(from + corner, head_dim, to + lane, lane_bytes);
      } else {
        MTileToRows(from + lane, lane_bytes, to + corner, head_dim);
      }
    }
  }
}

// Streams of `bytes` per lane to and from the stored order.
template <int kPiece, bool kToTile>
static inline void CopyPieces(const std::byte* from, std::byte* to, int bytes) {
  for (int piece = 0; piece < bytes / kPiece; ++piece) {
    for (int lane = 0; lane < 32; ++lane) {
      const int stream = lane * bytes + piece * kPiece;
      const int stored = (piece * 32 + lane) * kPiece;
      __builtin_memcpy(to + (kToTile ? stored : stream), from + (kToTile ? stream : stored),
                       kPiece);
    }
  }
}

template <bool kToTile>
static inline void ShufflePieces(const std::byte* from, std::byte* to, int bytes, int piece_bytes) {
  if (piece_bytes == 16) {
    CopyPieces<16, kToTile>(from, to, bytes);
  } else {
    CopyPieces<8, kToTile>(from, to, bytes);
  }
}
