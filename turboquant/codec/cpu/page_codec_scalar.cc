// SPDX-License-Identifier: Apache-2.0
// The page codec one code at a time, straight from the definitions (PlaceOf*, unit_bits.h):
// documentation of the format, oracle of the vector kernels, and what runs where there are none.
#include <cmath>
#include <cstring>

#include "turboquant/codec/codebook.h"
#include "turboquant/codec/cpu/page_codec_kernels.h"
#include "turboquant/codec/cpu/rows_scalar.h"
#include "turboquant/codec/cpu/scalar_math.h"
#include "turboquant/codec/cpu/tile_side.h"
#include "turboquant/codec/cpu/trellis_ring_scalar.h"
#include "turboquant/codec/trellis_search.h"
#include "turboquant/codec/unit_bits.h"

namespace tq::scalar {
namespace {

constexpr int kMaxDim = 512;  // the largest of kHeadDims

CodePlace PlaceOf(const TileSide& s, int token, int dim) {
  return s.side == Side::kKey ? PlaceOfKey(s.tile, token, dim) : PlaceOfValue(s.tile, token, dim);
}

float ReadLevel(const TileSide& s, const std::byte* head, int token, int dim) {
  const CodePlace place = PlaceOf(s, token, dim);
  const std::byte* codes = head + s.CodesOffset(place.tile);
  uint32_t words[8];
  for (int w = 0; w < s.bits; ++w) {
    std::memcpy(&words[w], codes + WordOffset(s.tile, s.bits, place.lane, place.unit, w), 4);
  }
  if (s.trellis) {
    return static_cast<float>(UnitLevel(TrellisOfBits(s.bits), words, place.index));
  }
  const uint32_t code = GetUnitCode(s.bits, words, place.index);
  if (s.bits == 8) return static_cast<float>(static_cast<int8_t>(code));
  return static_cast<float>(CodebookOfBits(s.bits).DoubledLevel(code)) * 0.5f;
}

// For 8 bits: writes the code's byte, nothing else.
void WriteCode8(const TileSide& s, std::byte* head, int token, int dim, int code) {
  const CodePlace place = PlaceOf(s, token, dim);
  const uint32_t word = WordOffset(s.tile, 8, place.lane, place.unit, place.index / 4);
  head[s.CodesOffset(place.tile) + word + static_cast<uint32_t>(place.index % 4)] =
      static_cast<std::byte>(code);
}

// For sealing: the code's bits must be zero before.
void WriteCode(const TileSide& s, std::byte* head, int token, int dim, uint32_t code) {
  const CodePlace place = PlaceOf(s, token, dim);
  std::byte* codes = head + s.CodesOffset(place.tile);
  uint32_t words[8] = {};
  SetUnitCode(s.bits, words, place.index, code);
  for (int w = 0; w < s.bits; ++w) {
    std::byte* at = codes + WordOffset(s.tile, s.bits, place.lane, place.unit, w);
    uint32_t word;
    std::memcpy(&word, at, 4);
    word |= words[w];
    std::memcpy(at, &word, 4);
  }
}

// A scale, and zero into the other side's slot if that side is in rows and would leave it
// undefined.
void WriteScale(const TileSide& s, bool other_in_rows, std::byte* head, int token, Half scale) {
  StoreHalf(head + s.ScaleOffset(token), scale);
  if (other_in_rows) StoreHalf(head + s.OtherScaleOffset(token), 0);
}

// Level * scale + r, rounded after each step. r null means none.
void DecodeToken(const TileSide& s, const std::byte* head, const std::byte* r, int token,
                 float* out) {
  const float scale = HalfToFloat(LoadHalf(head + s.ScaleOffset(token)));
  for (int dim = 0; dim < s.tile.head_dim; ++dim) {
    out[dim] = ReadLevel(s, head, token, dim) * scale;
    if (r != nullptr) out[dim] += HalfToFloat(LoadHalf(r + 2 * dim));
  }
}

// The one order of additions that every device follows: 16 strided sums, then a tree.
float SumOfSquares(const float* x, int n) {
  float sums[16] = {};
  for (int i = 0; i < n; ++i) sums[i % 16] += x[i] * x[i];
  for (int width = 8; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) sums[i] += sums[i + width];
  }
  return sums[0];
}

// Norm-matched: the nearest level of x * gain / ||x||, scale = ||x|| / ||levels||.
void SealToken(const TileSide& s, bool other_in_rows, std::byte* head, int token, const float* x) {
  const int dims = s.tile.head_dim;
  const Codebook& book = CodebookOfBits(s.bits);
  const float norm = std::sqrt(SumOfSquares(x, dims));
  const float gain = norm > 0 ? CodebookGain(s.bits, dims) / norm : 0.0f;
  int doubled_squares = 0;  // sum of (2 level)^2: exact
  for (int dim = 0; dim < dims; ++dim) {
    const float y = x[dim] * gain;
    int magnitude = 0;
    while (magnitude + 1 < book.magnitudes &&
           std::fabs(y) > book.thresholds[static_cast<size_t>(magnitude)]) {
      ++magnitude;
    }
    WriteCode(s, head, token, dim, book.CodeOf(y < 0, magnitude));
    const int doubled = book.doubled[static_cast<size_t>(magnitude)];
    doubled_squares += doubled * doubled;
  }
  const float level_norm = std::sqrt(static_cast<float>(doubled_squares)) * 0.5f;
  WriteScale(s, other_in_rows, head, token, FiniteHalf(norm / level_norm));
}

#include "turboquant/codec/cpu/u16_scalar.inl"

void EncodeRings(int bits, const int16_t* in, uint16_t (*metrics)[kRings], uint16_t* coded,
                 int8_t* levels) {
  int16_t inputs[kUnitCodes];
  int8_t out[kUnitCodes];
  for (int p = 0; p < kUnitCodes; ++p) inputs[p] = in[p * 32];
  TrellisMetrics states;
  for (size_t s = 0; s < states.size(); ++s) states[s] = metrics[s][0];
  const uint32_t word = RingLap(TrellisOfBits(bits)).Encode(inputs, states, out);
  for (int half = 0; half < 2; ++half) coded[half * 32] = static_cast<uint16_t>(word >> 16 * half);
  for (size_t s = 0; s < states.size(); ++s) metrics[s][0] = states[s];
  for (int p = 0; p < kUnitCodes; ++p) levels[p * 32] = out[p];
}
float SquareRoot(float x) { return std::sqrt(x); }

#include "turboquant/codec/cpu/trellis_tile.inl"

// Pads the reference with zeros up to the tiles, so that every byte of a page is defined.
void WriteReference(const PageLayout& layout, std::byte* head, const float* r) {
  std::byte* reference = head + layout.reference_offset;
  std::memset(reference, 0, layout.tiles_offset - layout.reference_offset);
  for (int dim = 0; dim < layout.head_dim; ++dim) {
    StoreHalf(reference + 2 * dim, FiniteHalf(Sanitize(r[dim])));
  }
}

void SetReference(const PageLayout& layout, std::byte* head, const float* r) noexcept {
  if (!SideOf(layout, Side::kKey).rows) WriteReference(layout, head, r);
}

void Encode(const PageLayout& layout, Side side, std::byte* head, int first,
            MatrixView<const float> z) {
  const TileSide s = SideOf(layout, side);
  const bool other_in_rows = side == Side::kKey ? layout.v_row_bytes != 0 : layout.k_row_bytes != 0;
  const std::byte* r = side == Side::kKey ? head + layout.reference_offset : nullptr;
  for (int i = 0; i < z.rows; ++i) {
    const int token = first + i;
    if (s.rows) {
      EncodeRow(s.codec, z.row(i), layout.head_dim,
                head + s.rows_offset + static_cast<uint32_t>(token) * s.row_bytes);
      continue;
    }
    float x[kMaxDim];
    float absmax = 0;
    for (int dim = 0; dim < layout.head_dim; ++dim) {
      x[dim] = Sanitize(z.row(i)[dim]);
      if (r != nullptr) x[dim] -= HalfToFloat(LoadHalf(r + 2 * dim));
      absmax = std::fmax(absmax, std::fabs(x[dim]));
    }
    const Half stored = ScaleOf8(absmax);
    const float scale = HalfToFloat(stored);
    for (int dim = 0; dim < layout.head_dim; ++dim) {
      WriteCode8(s, head, token, dim, CodeOf8(x[dim], scale));
    }
    WriteScale(s, other_in_rows, head, token, stored);
  }
}

void EncodeKeys(const PageLayout& layout, std::byte* head, int first,
                MatrixView<const float> z) noexcept {
  Encode(layout, Side::kKey, head, first, z);
}
void EncodeValues(const PageLayout& layout, std::byte* head, int first,
                  MatrixView<const float> z) noexcept {
  Encode(layout, Side::kValue, head, first, z);
}

// Decodes dims [begin, begin + n) of a token; n <= kMaxDim, and all dims at once for tiles.
void DecodeSlice(const PageLayout& layout, const TileSide& s, const std::byte* head, int token,
                 int begin, int n, float* out) {
  if (s.rows) {
    DecodeRow(s.codec, head + s.rows_offset + static_cast<uint32_t>(token) * s.row_bytes, begin, n,
              out);
  } else {
    DecodeToken(s, head, s.side == Side::kKey ? head + layout.reference_offset : nullptr, token,
                out);
  }
}

void DecodeKeys(const PageLayout& layout, const std::byte* head, int first,
                MatrixView<float> out) noexcept {
  const TileSide s = SideOf(layout, Side::kKey);
  for (int i = 0; i < out.rows; ++i) {
    DecodeSlice(layout, s, head, first + i, 0, layout.head_dim, out.row(i));
  }
}
void DecodeValues(const PageLayout& layout, const std::byte* head, int first,
                  MatrixView<float> out) noexcept {
  const TileSide s = SideOf(layout, Side::kValue);
  for (int i = 0; i < out.rows; ++i) {
    DecodeSlice(layout, s, head, first + i, 0, layout.head_dim, out.row(i));
  }
}

void MeanKey(const PageLayout& layout, const std::byte* head, float* mean) noexcept {
  const TileSide s = SideOf(layout, Side::kKey);
  for (int begin = 0; begin < layout.head_dim; begin += kMaxDim) {
    const int n = layout.head_dim - begin < kMaxDim ? layout.head_dim - begin : kMaxDim;
    float* sums = mean + begin;
    for (int i = 0; i < n; ++i) sums[i] = 0;
    for (int token = 0; token < kPageTokens; ++token) {
      float x[kMaxDim];
      DecodeSlice(layout, s, head, token, begin, n, x);
      for (int i = 0; i < n; ++i) sums[i] += x[i];
    }
    for (int i = 0; i < n; ++i) sums[i] *= 1.0f / kPageTokens;
  }
}

// Same codec: the bytes themselves.
void CopySide(const TileSide& from, const std::byte* open, const TileSide& to, bool other_in_rows,
              std::byte* sealed, PageTokens tokens) {
  const auto count = static_cast<uint32_t>(tokens.end - tokens.begin);
  if (from.rows) {
    const uint32_t begin = static_cast<uint32_t>(tokens.begin) * from.row_bytes;
    std::memcpy(sealed + to.rows_offset + begin, open + from.rows_offset + begin,
                size_t{from.row_bytes} * count);
    return;
  }
  for (int token = tokens.begin; token < tokens.end; token += from.tile.tokens) {
    const int tile = token / from.tile.tokens;
    std::memcpy(sealed + to.CodesOffset(tile), open + from.CodesOffset(tile),
                static_cast<size_t>(from.tile.side_bytes(from.bits)));
  }
  for (int token = tokens.begin; token < tokens.end; ++token) {
    WriteScale(to, other_in_rows, sealed, token, LoadHalf(open + from.ScaleOffset(token)));
  }
}

// load(token, x): the vector that is to be sealed.
template <typename Load>
void SealTile(const TileSide& s, bool other_in_rows, std::byte* head, int tile, const Load& load) {
  float rows[kMaxTrellisCodes];
  for (int i = 0; i < s.tile.tokens; ++i) {
    load(tile * s.tile.tokens + i, rows + i * s.tile.head_dim);
  }
  if (s.trellis) {
    TrellisWork work;
    return SealTrellisTile(s, other_in_rows, rows, head, tile, work);
  }
  std::memset(head + s.CodesOffset(tile), 0, static_cast<size_t>(s.tile.side_bytes(s.bits)));
  for (int i = 0; i < s.tile.tokens; ++i) {
    SealToken(s, other_in_rows, head, tile * s.tile.tokens + i, rows + i * s.tile.head_dim);
  }
}
template <typename Load>
void SealTokens(const TileSide& s, bool other_in_rows, std::byte* head, PageTokens tokens,
                const Load& load) {
  for (int token = tokens.begin; token < tokens.end; token += s.tile.tokens) {
    SealTile(s, other_in_rows, head, token / s.tile.tokens, load);
  }
}

void SealKeys(const PageLayout& open, const std::byte* open_head, const PageLayout& sealed,
              std::byte* sealed_head, PageTokens tokens) noexcept {
  const TileSide from = SideOf(open, Side::kKey);
  const TileSide to = SideOf(sealed, Side::kKey);
  const bool other_in_rows = sealed.v_row_bytes != 0;
  const std::byte* r = open_head + open.reference_offset;
  float own[kMaxDim];
  if (!from.rows) {
    const bool stays = from.codec == to.codec || from.bits != 8;
    if (!stays) MeanKey(open, open_head, own);
    for (int dim = 0; dim < open.head_dim; ++dim) {
      own[dim] = HalfToFloat(stays ? LoadHalf(r + 2 * dim) : FiniteHalf(Sanitize(own[dim])));
    }
    if (tokens.begin == 0) WriteReference(sealed, sealed_head, own);
  }
  if (from.codec == to.codec) {
    return CopySide(from, open_head, to, other_in_rows, sealed_head, tokens);
  }
  SealTokens(to, other_in_rows, sealed_head, tokens, [&](int token, float* x) {
    DecodeToken(from, open_head, r, token, x);
    for (int dim = 0; dim < open.head_dim; ++dim) x[dim] -= own[dim];
  });
}

void SealValues(const PageLayout& open, const std::byte* open_head, const PageLayout& sealed,
                std::byte* sealed_head, PageTokens tokens) noexcept {
  const TileSide from = SideOf(open, Side::kValue);
  const TileSide to = SideOf(sealed, Side::kValue);
  const bool other_in_rows = sealed.k_row_bytes != 0;
  if (from.codec == to.codec) {
    return CopySide(from, open_head, to, other_in_rows, sealed_head, tokens);
  }
  SealTokens(to, other_in_rows, sealed_head, tokens,
             [&](int token, float* x) { DecodeToken(from, open_head, nullptr, token, x); });
}

}  // namespace

const PageCodec kPageCodec = {SetReference, EncodeKeys, EncodeValues, SealKeys,
                              SealValues,   DecodeKeys, DecodeValues, MeanKey};

}  // namespace tq::scalar
