// SPDX-License-Identifier: Apache-2.0
// Attention kernels one code at a time: what the format means, and what runs without vector units.
#include "turboquant/attention/cpu/attention_kernels.h"
#include "turboquant/attention/cpu/vec_scalar.h"
#include "turboquant/attention/online_softmax.h"
#include "turboquant/codec/codebook.h"
#include "turboquant/codec/trellis.h"
#include "turboquant/codec/unit_bits.h"

namespace tq::scalar {
namespace {

constexpr float kWeightLevels = 65500;

float HalfBitsToFloat(uint16_t bits) { return HalfToFloat(bits); }

// 16-bit weights in token order.
int32_t QuantiseWeights(const float* weights, float factor, std::byte* codes) {
  auto* out = reinterpret_cast<uint16_t*>(codes);
  int32_t sum = 0;
  for (int i = 0; i < kPageTokens; ++i) {
    const float level = weights[i] * factor + 0.5f;
    out[i] = level >= 0.0f && level < 65536.0f ? static_cast<uint16_t>(level) : uint16_t{0};
    sum += out[i];
  }
  return sum;
}

#include "turboquant/attention/cpu/panel_kernels.inl"
#include "turboquant/attention/cpu/row_kernels.inl"
#include "turboquant/attention/cpu/softmax_kernels.inl"

int64_t QueryBytes(int head_dim) { return head_dim * 2; }

// A tile's doubled levels, or kRowBlock rows of floats.
int64_t ScratchBytes(int padded_dim) { return static_cast<int64_t>(padded_dim) * kPageTokens * 2; }

void PrepareQueries(const Columns& columns) noexcept {
  const int dims = columns.head_dim;
  for (int c = 0; c < columns.count; ++c) {
    const float* q = columns.q + c * columns.padded_dim;
    float largest = 0;
    for (int d = 0; d < dims; ++d) largest = ::fmaxf(largest, ::fabsf(q[d]));
    const bool any = largest > 1e-30f;
    const float factor = any ? kQueryLevels / largest : 0.0f;
    columns.q_scale[c] = any ? largest / kQueryLevels : 0.0f;
    auto* codes = reinterpret_cast<int16_t*>(columns.q_codes + c * QueryBytes(dims));
    int32_t sum = 0;
    for (int d = 0; d < dims; ++d) {
      codes[d] = static_cast<int16_t>(::lrintf(q[d] * factor));
      sum += codes[d];
    }
    columns.q_sum[c] = sum;
  }
}

int DoubledLevel(const PageSide& side, const uint32_t* words, int n) {
  if (side.trellis) return 2 * UnitLevel(TrellisOfBits(side.bits), words, n);
  const uint32_t code = GetUnitCode(side.bits, words, n);
  if (side.bits == 8) return 2 * static_cast<int8_t>(code);
  return CodebookOfBits(side.bits).DoubledLevel(code);
}

struct Place {
  int token, dim;
};
// Inverses of PlaceOfKey and PlaceOfValue within a tile.
Place KeyAt(const TileLayout& tile, int lane, int position) {
  const int dims = tile.head_dim / 4;
  return {position / dims * 8 + lane / 4, lane % 4 * dims + position % dims};
}
Place ValueAt(const TileLayout& tile, int lane, int position) {
  const int halves = tile.tokens / 32;
  const int m_tile = position / 16;
  const int e = position % 16 / 4;
  const int b = position % 4;
  const int token = m_tile % halves * 32 + e / 2 * 16 + 2 * (lane % 4) + b / 2 + b % 2 * 8;
  return {token, m_tile / halves * 16 + e % 2 * 8 + lane / 4};
}

// Doubled levels of a tile to out [tokens][D].
void ExpandTile(const TileLayout& tile, const std::byte* codes, const PageSide& side,
                Place (*at)(const TileLayout&, int, int), int16_t* out) {
  for (int lane = 0; lane < 32; ++lane) {
    for (int unit = 0; unit < tile.units; ++unit) {
      uint32_t words[8];
      for (int w = 0; w < side.bits; ++w) {
        const int byte = (unit * side.bits + w) * 4;
        const int offset = (byte / tile.piece_bytes * 32 + lane) * tile.piece_bytes;
        ::memcpy(&words[w], codes + offset + byte % tile.piece_bytes, 4);
      }
      for (int n = 0; n < kUnitCodes; ++n) {
        const Place place = at(tile, lane, unit * kUnitCodes + n);
        out[place.token * tile.head_dim + place.dim] =
            static_cast<int16_t>(DoubledLevel(side, words, n));
      }
    }
  }
}

float ScaleOf(const TileLayout& tile, const PageSide& side, int token) {
  const int in_tile = token % tile.tokens;
  const std::byte* p = side.scales + side.scale_offset + token / tile.tokens * side.stride +
                       in_tile / 32 * 128 + in_tile % 8 * 16 + in_tile % 32 / 8 * 2;
  return Vec::LoadHalf(p);
}

void LoadScales(const TileLayout& tile, const PageSide& side, int first, int last,
                float* out) noexcept {
  for (int i = 0; i < kPageTokens; ++i) {
    out[i] = i >= first && i < last ? ScaleOf(tile, side, i) : 0.0f;
  }
}

void ScoreTiles(const TileLayout& tile, const PageSide& k, const Columns& columns, int begin,
                int end, int first, int last) noexcept {
  const int dims = tile.head_dim;
  auto* levels = reinterpret_cast<int16_t*>(columns.scratch);
  for (int c = begin; c < end; ++c) {
    // q . r, the page's part of the score; added below.
    float sum = 0;
    for (int d = 0; d < dims; ++d) {
      sum += columns.q[c * columns.padded_dim + d] * Vec::LoadHalf(k.reference + 2 * d);
    }
    columns.keep[c] = sum;
  }
  for (int start = first / tile.tokens * tile.tokens; start < last; start += tile.tokens) {
    ExpandTile(tile, k.data + start / tile.tokens * k.stride, k, KeyAt, levels);
    for (int i = 0; i < tile.tokens; ++i) {
      const float scale = ScaleOf(tile, k, start + i);
      for (int c = begin; c < end; ++c) {
        const auto* q = reinterpret_cast<const int16_t*>(columns.q_codes + c * QueryBytes(dims));
        int64_t sum = 0;
        for (int d = 0; d < dims; ++d) sum += q[d] * levels[i * dims + d];
        columns.scores[c * kPageTokens + start + i] =
            static_cast<float>(sum) * (0.5f * scale * columns.q_scale[c]) + columns.keep[c];
      }
    }
  }
}

void MixTiles(const TileLayout& tile, const PageSide& v, const Columns& columns, int begin, int end,
              int first, int last) noexcept {
  const int dims = tile.head_dim;
  auto* levels = reinterpret_cast<int16_t*>(columns.scratch);
  for (int c = begin; c < end; ++c) {
    for (int d = 0; d < dims; ++d) columns.o[c * columns.padded_dim + d] *= columns.keep[c];
  }
  for (int start = first / tile.tokens * tile.tokens; start < last; start += tile.tokens) {
    ExpandTile(tile, v.data + start / tile.tokens * v.stride, v, ValueAt, levels);
    for (int c = begin; c < end; ++c) {
      const auto* p = reinterpret_cast<const uint16_t*>(columns.p_codes + c * kWeightBytes) + start;
      for (int d = 0; d < dims; ++d) {
        int64_t sum = 0;
        for (int i = 0; i < tile.tokens; ++i) sum += int64_t{p[i]} * levels[i * dims + d];
        columns.o[c * columns.padded_dim + d] +=
            static_cast<float>(sum) * (0.5f * columns.p_scale[c]);
      }
    }
  }
}

}  // namespace

const AttentionKernels kAttentionKernels = {
    QueryBytes, ScratchBytes, PrepareQueries, ScoreTiles, ScoreRows, LoadScales, Weigh,
    MixTiles,   MixRows,      PackKeys,       PackValues, Multiply,  WeighRow};

}  // namespace tq::scalar
