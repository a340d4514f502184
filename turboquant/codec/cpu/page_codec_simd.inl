// SPDX-License-Identifier: Apache-2.0
// The page codec over vectors: what page_codec_scalar.cc defines code by code, done a tile or a
// head vector at a time. Included inside tq::avx2 and tq::avx512 after f16_*.inl,
// head_vector_simd.inl, unit_bits_simd.inl, tile_shuffle_simd.inl and rows_simd.inl.

static constexpr int kMaxDim = 512;
static constexpr int kMaxTileCodes = kMaxDim * 32;  // D = 512; other tiles are smaller

// Plain arrays of a codebook, worked out by the compiler.
struct BookConstants {
  float thresholds[7];
  int squares[8];
  int8_t levels[8];
};
static constexpr BookConstants MakeConstants(int bits) {
  const Codebook& book = CodebookOfBits(bits);
  BookConstants c = {};
  for (size_t i = 0; i < 7; ++i) c.thresholds[i] = book.thresholds[i];
  for (size_t i = 0; i < 8; ++i) c.squares[i] = book.doubled[i] * book.doubled[i];
  for (size_t i = 0; i < 8; ++i) c.levels[i] = book.SelectorTable()[i];
  return c;
}
static constexpr BookConstants kBooks[] = {MakeConstants(2), MakeConstants(3), MakeConstants(4)};

template <int kBits>
static inline void UnpackAll(const std::byte* words, int units, std::byte* levels) {
  int64_t eight;
  __builtin_memcpy(&eight, kBooks[kBits - 2].levels, 8);
  const __m256i table = _mm256_set1_epi64x(eight);
  for (int u = 0; u < units; ++u) UnpackUnit<kBits>(words + u * kBits * 4, table, levels + u * 32);
}

template <int kBits>
static inline void UnpackAllTrellis(const std::byte* words, int units, std::byte* levels) {
  for (int u = 0; u < units; ++u) UnpackTrellisUnit<kBits>(words + u * kBits * 4, levels + u * 32);
}

static inline void UnpackUnits(const TileSide& s, const std::byte* words, std::byte* levels) {
  const int units = 32 * s.tile.units;
  switch (s.bits + (s.trellis ? 8 : 0)) {
    case 2:
      return UnpackAll<2>(words, units, levels);
    case 3:
      return UnpackAll<3>(words, units, levels);
    case 4:
      return UnpackAll<4>(words, units, levels);
    case 10:
      return UnpackAllTrellis<2>(words, units, levels);
    case 11:
      return UnpackAllTrellis<3>(words, units, levels);
    default:
      return UnpackAllTrellis<4>(words, units, levels);
  }
}

// A tile's codes as level bytes, rows [tokens][D].
static void TileToRows(const TileSide& s, const std::byte* head, int tile, std::byte* rows) {
  alignas(64) std::byte lanes[kMaxTileCodes];
  const int stream = s.tile.units * s.bits * 4;
  const std::byte* stored = head + s.CodesOffset(tile);
  if (s.bits == 8) {
    ShufflePieces<false>(stored, lanes, stream, s.tile.piece_bytes);
  } else {
    alignas(64) std::byte words[kMaxTileCodes / 2 + 16];
    ShufflePieces<false>(stored, words, stream, s.tile.piece_bytes);
    UnpackUnits(s, words, lanes);
  }
  if (s.side == Side::kKey) {
    ShuffleKeys<false>(s.tile.head_dim, lanes, rows, s.tile.tokens);
  } else {
    ShuffleValues<false>(s.tile.head_dim, lanes, rows, s.tile.tokens);
  }
}

// Rows [tokens][D] of codes into a tile of kBits.
template <int kBits>
static void RowsToTile(const TileSide& s, const std::byte* rows, std::byte* head, int tile) {
  alignas(64) std::byte lanes[kMaxTileCodes];
  alignas(64) std::byte words[kMaxTileCodes / 2 + 16];
  if (s.side == Side::kKey) {
    ShuffleKeys<true>(s.tile.head_dim, rows, lanes, s.tile.tokens);
  } else {
    ShuffleValues<true>(s.tile.head_dim, rows, lanes, s.tile.tokens);
  }
  for (int u = 0; u < 32 * s.tile.units; ++u)
    PackUnit<kBits>(lanes + u * 32, words + u * kBits * 4);
  ShufflePieces<true>(words, head + s.CodesOffset(tile), s.tile.units * kBits * 4,
                      s.tile.piece_bytes);
}

static void WriteScale(const TileSide& s, bool other_in_rows, std::byte* head, int token,
                       uint16_t scale) {
  StoreHalf(head + s.ScaleOffset(token), scale);
  if (other_in_rows) StoreHalf(head + s.OtherScaleOffset(token), 0);
}

// Levels that lack a half.
static bool HasHalf(const TileSide& s) { return s.bits == 4 && !s.trellis; }

// The page's reference as floats; null for values.
static const float* LoadReference(const PageLayout& layout, const TileSide& s,
                                  const std::byte* head, float* r) {
  if (s.side == Side::kValue) return nullptr;
  for (int i = 0; i < layout.head_dim; i += 16)
    StoreF(r + i, LoadHalves(head + layout.reference_offset + 2 * i));
  return r;
}

// As a page holds it.
static void RoundReference(float* r, int dims) {
  for (int i = 0; i < dims; i += 16) {
    std::byte halves[32];
    StoreHalves(halves, ClampF(Sanitize(LoadF(r + i)), kMaxHalf));
    StoreF(r + i, LoadHalves(halves));
  }
}

static void WriteReference(const PageLayout& layout, std::byte* head, const float* r) {
  std::byte* reference = head + layout.reference_offset;
  __builtin_memset(reference, 0, layout.tiles_offset - layout.reference_offset);
  for (int i = 0; i < layout.head_dim; i += 16) {
    StoreHalves(reference + 2 * i, ClampF(Sanitize(LoadF(r + i)), kMaxHalf));
  }
}

static void SetReference(const PageLayout& layout, std::byte* head, const float* r) noexcept {
  if (layout.k_row_bytes == 0) WriteReference(layout, head, r);
}

// One token's 8-bit codes into the tile: whole bytes of its own, nothing is read.
static void ScatterKey(const TileSide& s, const std::byte* codes, std::byte* head, int token) {
  const int quarter = s.tile.head_dim / 4, piece = s.tile.piece_bytes;
  const int in_tile = token % s.tile.tokens;
  std::byte* tile = head + s.CodesOffset(token / s.tile.tokens);
  const int begin = in_tile / 8 * quarter;  // in the lane's stream
  // Runs of four bytes never straddle a piece: D / 4 is a multiple of four.
  for (int t = 0; t < 4; ++t) {
    const int lane = in_tile % 8 * 4 + t;
    if (quarter % 16 == 0) {
      for (int i = 0; i < quarter; i += 16) {
        __builtin_memcpy(tile + ((begin + i) / 16 * 32 + lane) * 16, codes + t * quarter + i, 16);
      }
    } else {
      for (int i = 0; i < quarter; i += 4) {
        const int at = begin + i;
        __builtin_memcpy(tile + (at / piece * 32 + lane) * piece + at % piece,
                         codes + t * quarter + i, 4);
      }
    }
  }
}

static void ScatterValue(const TileSide& s, const std::byte* codes, std::byte* head, int token) {
  const int piece = s.tile.piece_bytes, halves = s.tile.tokens / 32;
  const int in_tile = token % s.tile.tokens;
  const int row = in_tile % 16, t = row % 8 / 2, b = row % 2 * 2 + row / 8;
  std::byte* tile = head + s.CodesOffset(token / s.tile.tokens);
  for (int block = 0; block < s.tile.head_dim / 16; ++block) {
    // Byte of element e = 2 (upper half of the 32 tokens) in the lane's stream; dims 8 further are
    // four bytes further.
    const int at = 16 * (block * halves + in_tile / 32) + in_tile % 32 / 16 * 8 + b;
    std::byte* out = tile + (at / piece * 32 + t) * piece + at % piece;
    for (int g = 0; g < 8; ++g) {
      out[4 * g * piece] = codes[16 * block + g];
      out[4 * g * piece + 4] = codes[16 * block + g + 8];
    }
  }
}

// 32 aligned tokens of V at once.
static void StoreValues32(const TileSide& s, const std::byte* codes, std::byte* head, int token) {
  const int halves = s.tile.tokens / 32, dims = s.tile.head_dim;
  std::byte* tile = head + s.CodesOffset(token / s.tile.tokens);
  for (int block = 0; block < dims / 16; ++block) {
    std::byte* m_tile = tile + 512 * (block * halves + token % s.tile.tokens / 32);
    if (s.tile.piece_bytes == 16) {
      RowsToMTile(codes + 16 * block, dims, m_tile, 16);
    } else {
      std::byte lanes[512];
      RowsToMTile(codes + 16 * block, dims, lanes, 16);
      ShufflePieces<true>(lanes, m_tile, 16, 8);
    }
  }
}

static void Encode(const PageLayout& layout, Side side, std::byte* head, int first,
                   MatrixView<const float> z) {
  const TileSide s = SideOf(layout, side);
  const int dims = layout.head_dim;
  if (s.rows) {
    for (int i = 0; i < z.rows; ++i) {
      EncodeRow(s.codec, z.data + i * z.stride, dims,
                head + s.rows_offset + static_cast<uint32_t>(first + i) * s.row_bytes);
    }
    return;
  }
  const bool other_in_rows = side == Side::kKey ? layout.v_row_bytes != 0 : layout.k_row_bytes != 0;
  float reference[kMaxDim];
  const float* r = LoadReference(layout, s, head, reference);
  alignas(64) std::byte codes[kMaxTileCodes];  // 32 tokens at most
  const int rows = static_cast<int>(z.rows);
  for (int i = 0; i < rows;) {
    const int token = first + i;
    const bool block = side == Side::kValue && token % 32 == 0 && rows - i >= 32;
    const int count = block ? 32 : 1;
    for (int j = 0; j < count; ++j) {
      const uint16_t scale = EncodeVector8(z.data + (i + j) * z.stride, r, dims, codes + j * dims);
      WriteScale(s, other_in_rows, head, token + j, scale);
    }
    if (block) {
      StoreValues32(s, codes, head, token);
    } else if (side == Side::kValue) {
      ScatterValue(s, codes, head, token);
    } else {
      ScatterKey(s, codes, head, token);
    }
    i += count;
  }
}

static void EncodeKeys(const PageLayout& layout, std::byte* head, int first,
                       MatrixView<const float> z) noexcept {
  Encode(layout, Side::kKey, head, first, z);
}
static void EncodeValues(const PageLayout& layout, std::byte* head, int first,
                         MatrixView<const float> z) noexcept {
  Encode(layout, Side::kValue, head, first, z);
}

static void Decode(const PageLayout& layout, Side side, const std::byte* head, int first,
                   MatrixView<float> out) {
  const TileSide s = SideOf(layout, side);
  const int dims = layout.head_dim;
  const int end = first + static_cast<int>(out.rows);
  if (s.rows) {
    for (int token = first; token < end; ++token) {
      DecodeRow(s.codec, head + s.rows_offset + static_cast<uint32_t>(token) * s.row_bytes, 0, dims,
                out.data + (token - first) * out.stride);
    }
    return;
  }
  float reference[kMaxDim];
  const float* r = LoadReference(layout, s, head, reference);
  alignas(64) std::byte rows[kMaxTileCodes];
  for (int token = first; token < end;) {
    const int tile = token / s.tile.tokens;
    TileToRows(s, head, tile, rows);
    for (; token < end && token / s.tile.tokens == tile; ++token) {
      DecodeVector(rows + token % s.tile.tokens * dims, HalfAt(head + s.ScaleOffset(token)), r,
                   HasHalf(s), dims, out.data + (token - first) * out.stride);
    }
  }
}

static void DecodeKeys(const PageLayout& layout, const std::byte* head, int first,
                       MatrixView<float> out) noexcept {
  Decode(layout, Side::kKey, head, first, out);
}
static void DecodeValues(const PageLayout& layout, const std::byte* head, int first,
                         MatrixView<float> out) noexcept {
  Decode(layout, Side::kValue, head, first, out);
}

// Mean of rows [128][D] of level bytes.
static void MeanOfRows(const TileSide& s, const std::byte* head, const std::byte* rows,
                       const float* r, float* mean) {
  const int dims = s.tile.head_dim;
  for (int i = 0; i < dims; i += 16) StoreF(mean + i, SetF(0));
  for (int token = 0; token < kPageTokens; ++token) {
    float x[kMaxDim];
    DecodeVector(rows + token * dims, HalfAt(head + s.ScaleOffset(token)), r, HasHalf(s), dims, x);
    AddTo(mean, x, dims);
  }
  for (int i = 0; i < dims; i += 16)
    StoreF(mean + i, MulF(LoadF(mean + i), SetF(1.0f / kPageTokens)));
}

static void MeanKey(const PageLayout& layout, const std::byte* head, float* mean) noexcept {
  const TileSide s = SideOf(layout, Side::kKey);
  if (s.rows) return scalar::kPageCodec.MeanKey(layout, head, mean);  // nobody's hot path
  float reference[kMaxDim];
  alignas(64) std::byte rows[kPageTokens * kMaxDim];
  for (int tile = 0; tile < s.tile.tiles_per_page(); ++tile) {
    TileToRows(s, head, tile, rows + tile * s.tile.tokens * s.tile.head_dim);
  }
  MeanOfRows(s, head, rows, LoadReference(layout, s, head, reference), mean);
}

// A tile's rows of level bytes, overwritten, to a sealed tile.
template <int kBits>
static void SealRows(const TileSide& from, const std::byte* open, const TileSide& to,
                     bool other_in_rows, std::byte* sealed, int tile, std::byte* rows,
                     const float* r, const float* mean) {
  const int dims = to.tile.head_dim;
  Quantizer q = {kBooks[kBits - 2].thresholds, {}, CodebookGain(kBits, dims)};
  for (int i = 0; i < 8; ++i) q.squares[i] = kBooks[kBits - 2].squares[i];
  for (int i = 0; i < to.tile.tokens; ++i) {
    const int token = tile * to.tile.tokens + i;
    std::byte* row = rows + i * dims;
    const float scale = HalfAt(open + from.ScaleOffset(token));
    WriteScale(to, other_in_rows, sealed, token,
               SealVector<kBits>(q, row, scale, r, HasHalf(from), mean, dims, row));
  }
  RowsToTile<kBits>(to, rows, sealed, tile);
}

#include "turboquant/codec/cpu/trellis_tile.inl"

// The same, of a trellis.
static void SealTrellisRows(const TileSide& from, const std::byte* open, const TileSide& to,
                            bool other_in_rows, std::byte* sealed, int tile, std::byte* rows,
                            const float* r, const float* mean) {
  const int dims = to.tile.head_dim;
  alignas(64) float x[kMaxTrellisCodes];
  TrellisWork work;
  for (int i = 0; i < to.tile.tokens; ++i) {
    const int token = tile * to.tile.tokens + i;
    float* y = x + i * dims;
    DecodeVector(rows + i * dims, HalfAt(open + from.ScaleOffset(token)), r, HasHalf(from), dims,
                 y);
    for (int dim = 0; mean != nullptr && dim < dims; ++dim) y[dim] -= mean[dim];
  }
  SealTrellisTile(to, other_in_rows, x, sealed, tile, work);
}

static void Seal(const PageLayout& open, const std::byte* open_head, const PageLayout& sealed,
                 std::byte* sealed_head, Side side, PageTokens tokens) {
  const TileSide from = SideOf(open, side), to = SideOf(sealed, side);
  const bool other_in_rows = side == Side::kKey ? sealed.v_row_bytes != 0 : sealed.k_row_bytes != 0;
  float reference[kMaxDim], mean[kMaxDim];
  const float* r = LoadReference(open, from, open_head, reference);
  const float* own = r;  // sealed before: the mean stays
  if (side == Side::kKey && from.bits == 8) {
    MeanKey(open, open_head, mean);
    RoundReference(mean, open.head_dim);
    own = mean;
  }
  if (side == Side::kKey && tokens.begin == 0) WriteReference(sealed, sealed_head, own);
  const auto seal = to.trellis     ? SealTrellisRows
                    : to.bits == 2 ? SealRows<2>
                    : to.bits == 3 ? SealRows<3>
                                   : SealRows<4>;
  for (int token = tokens.begin; token < tokens.end; token += to.tile.tokens) {
    const int tile = token / to.tile.tokens;
    alignas(64) std::byte rows[kMaxTileCodes];
    TileToRows(from, open_head, tile, rows);
    seal(from, open_head, to, other_in_rows, sealed_head, tile, rows, r, own);
  }
}

// Pages whose codec stays are copies of bytes: the scalar code has nothing to gain there.
static void SealKeys(const PageLayout& open, const std::byte* open_head, const PageLayout& sealed,
                     std::byte* sealed_head, PageTokens tokens) noexcept {
  if (open.k == sealed.k) {
    return scalar::kPageCodec.SealKeys(open, open_head, sealed, sealed_head, tokens);
  }
  Seal(open, open_head, sealed, sealed_head, Side::kKey, tokens);
}
static void SealValues(const PageLayout& open, const std::byte* open_head, const PageLayout& sealed,
                       std::byte* sealed_head, PageTokens tokens) noexcept {
  if (open.v == sealed.v) {
    return scalar::kPageCodec.SealValues(open, open_head, sealed, sealed_head, tokens);
  }
  Seal(open, open_head, sealed, sealed_head, Side::kValue, tokens);
}

const PageCodec kPageCodec = {SetReference, EncodeKeys, EncodeValues, SealKeys,
                              SealValues,   DecodeKeys, DecodeValues, MeanKey};
