// SPDX-License-Identifier: Apache-2.0
// Attention kernels for AVX-512 with VNNI and VBMI. Scores: 16-bit queries as two signed bytes
// against unsigned codes (level + 128). Values: 16-bit weights as two unsigned bytes against signed
// levels. Both sums are exact in int32.
#include <math.h>

#include "turboquant/attention/cpu/attention_kernels.h"
#include "turboquant/attention/cpu/expand_avx512.h"
#include "turboquant/attention/cpu/vec_avx512.h"
#include "turboquant/attention/online_softmax.h"
#include "turboquant/codec/cpu/intrinsics.h"

namespace tq::avx512 {
namespace {

constexpr float kWeightLevels = 65500;

// sum += u8 . s8 in fours. GCC 12 copies the sum before and after the intrinsic, and runs out of
// registers.
[[gnu::always_inline]] inline void Dot(__m512i& sum, __m512i u8, __m512i s8) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(u8), "v"(s8));
}

inline float HalfBitsToFloat(uint16_t bits) { return _cvtsh_ss(bits); }

constexpr Bytes MakeWeightOrder() {
  Bytes order = {};
  for (int i = 0; i < 64; ++i) {
    const int quad = i / 4 % 8;
    const int token = quad / 4 * 16 + quad % 4 * 2 + i % 4 / 2 + i % 2 * 8;
    order.at[i] = static_cast<int8_t>(token * 4 + i / 32);
  }
  return order;
}
constexpr Bytes kWeightOrder = MakeWeightOrder();

// Per 32 tokens: [8 quads] low bytes, [8 quads] high bytes. A quad is {2t, 2t + 8, 2t + 1, 2t + 9}
// of 16 tokens, as values have it.
inline int32_t QuantiseWeights(const float* weights, float factor, std::byte* codes) {
  const __m512i index = kWeightOrder.Load();
  const __m512 f = _mm512_set1_ps(factor);
  __m512i sum = _mm512_setzero_si512();
  for (int i = 0; i < kPageTokens; i += 32) {
    const __m512i a = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(weights + i), f));
    const __m512i b = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(weights + i + 16), f));
    sum = _mm512_add_epi32(sum, _mm512_add_epi32(a, b));
    _mm512_storeu_si512(codes + 2 * i, _mm512_permutex2var_epi8(a, index, b));
  }
  return _mm512_reduce_add_epi32(sum);
}

#include "turboquant/attention/cpu/panel_kernels.inl"
#include "turboquant/attention/cpu/row_kernels.inl"
#include "turboquant/attention/cpu/softmax_kernels.inl"
#include "turboquant/attention/cpu/tile_kernels.inl"

// [t pair][D / 16][high, low] vectors: 4 dims of t even eight times, then of t odd.
int64_t QueryBytes(int head_dim) { return head_dim / 16 * 256; }

// Float rows, a tile of keys or a page of values.
int64_t ScratchBytes(int padded_dim) { return static_cast<int64_t>(padded_dim) * kPageTokens; }

void PrepareQueries(const Columns& columns) noexcept {
  const int dims = columns.head_dim;
  const int steps = dims / 16;
  for (int c = 0; c < columns.count; ++c) {
    const float* q = columns.q + c * columns.padded_dim;
    __m512 largest = _mm512_setzero_ps();
    for (int d = 0; d < dims; d += 16) {
      largest = _mm512_max_ps(largest, _mm512_abs_ps(_mm512_loadu_ps(q + d)));
    }
    const float top = _mm512_reduce_max_ps(largest);
    const bool any = top > 1e-30f;
    columns.q_scale[c] = any ? top / kQueryLevels : 0.0f;
    const __m512 factor = _mm512_set1_ps(any ? kQueryLevels / top : 0.0f);
    alignas(64) int8_t high[512], low[512];
    __m512i sum = _mm512_setzero_si512();
    for (int d = 0; d < dims; d += 16) {
      const __m512i x = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(q + d), factor));
      const __m512i h = _mm512_srai_epi32(_mm512_add_epi32(x, _mm512_set1_epi32(128)), 8);
      sum = _mm512_add_epi32(sum, x);
      _mm_store_si128(reinterpret_cast<__m128i*>(high + d), _mm512_cvtepi32_epi8(h));
      _mm_store_si128(reinterpret_cast<__m128i*>(low + d), _mm512_cvtepi32_epi8(x));
    }
    columns.q_sum[c] = _mm512_reduce_add_epi32(sum);
    std::byte* out = columns.q_codes + c * QueryBytes(dims);
    for (int pair = 0; pair < 2; ++pair) {
      for (int s = 0; s < steps; ++s) {
        for (const int8_t* part : {high, low}) {
          int32_t even, odd;
          __builtin_memcpy(&even, part + pair * 2 * steps * 4 + 4 * s, 4);
          __builtin_memcpy(&odd, part + (pair * 2 + 1) * steps * 4 + 4 * s, 4);
          _mm512_store_si512(out, _mm512_mask_set1_epi32(_mm512_set1_epi32(even), 0xff00, odd));
          out += 64;
        }
      }
    }
  }
}

void LoadScales(const TileLayout& tile, const PageSide& side, int first, int last,
                float* out) noexcept {
  // Of token i of 32: half i % 8 * 8 + i / 8 of the block, the side's first one added.
  const __m512i lane =
      _mm512_setr_epi32(0x00080000, 0x00180010, 0x00280020, 0x00380030, 0x00090001, 0x00190011,
                        0x00290021, 0x00390031, 0x000a0002, 0x001a0012, 0x002a0022, 0x003a0032,
                        0x000b0003, 0x001b0013, 0x002b0023, 0x003b0033);
  const __m512i index =
      _mm512_add_epi16(lane, _mm512_set1_epi16(static_cast<int16_t>(side.scale_offset / 2)));
  for (int token = first / 32 * 32; token < last; token += 32) {
    const std::byte* block =
        side.scales + token / tile.tokens * side.stride + token % tile.tokens * 4;
    const __m512i halves =
        _mm512_permutex2var_epi16(_mm512_loadu_si512(block), index, _mm512_loadu_si512(block + 64));
    _mm512_storeu_ps(out + token, _mm512_cvtph_ps(_mm512_castsi512_si256(halves)));
    _mm512_storeu_ps(out + token + 16, _mm512_cvtph_ps(_mm512_extracti64x4_epi64(halves, 1)));
  }
  for (int i = 0; i < first; ++i) out[i] = 0;
  for (int i = last; i < kPageTokens; ++i) out[i] = 0;
}

// What turns a column's integer sums into scores.
struct ScoreTerms {
  __m512i offset;  // 128 * sum of the query
  __m512 half;     // 4 bits: half the sum of the query
  __m512 scale;
  __m512 base;  // q . r
};

// Scores of kGroups * 8 tokens for kColumns columns. keys: the first group's codes.
template <int kColumns, int kGroups>
inline void DotTokens(const std::byte* keys, int64_t steps, const std::byte* q, int64_t q_stride,
                      const ScoreTerms* terms, const float* key_scales, float* scores) {
  __m512i high[kGroups][kColumns], low[kGroups][kColumns];
#pragma GCC unroll 8
  for (int g = 0; g < kGroups; ++g) {
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) high[g][c] = low[g][c] = _mm512_setzero_si512();
  }
  for (int64_t s = 0; s < 2 * steps; ++s) {
    __m512i x[kGroups];
#pragma GCC unroll 8
    for (int g = 0; g < kGroups; ++g) {
      x[g] = _mm512_load_si512(keys + (g * 2 * steps + s) * 64);
    }
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) {
      const __m512i h = _mm512_load_si512(q + c * q_stride + s * 128);
      const __m512i l = _mm512_load_si512(q + c * q_stride + s * 128 + 64);
#pragma GCC unroll 8
      for (int g = 0; g < kGroups; ++g) {
        Dot(high[g][c], x[g], h);
        Dot(low[g][c], x[g], l);
      }
    }
  }
#pragma GCC unroll 8
  for (int c = 0; c < kColumns; ++c) {
#pragma GCC unroll 8
    for (int g = 0; g < kGroups; g += 2) {
      const __m512i a = _mm512_add_epi32(_mm512_slli_epi32(high[g][c], 8), low[g][c]);
      const __m512i b = _mm512_add_epi32(_mm512_slli_epi32(high[g + 1][c], 8), low[g + 1][c]);
      const __m512i sum =
          _mm512_add_epi32(_mm512_shuffle_i64x2(a, b, 0x44), _mm512_shuffle_i64x2(a, b, 0xEE));
      const __m512 dot =
          _mm512_add_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(sum, terms[c].offset)), terms[c].half);
      const __m512 scale = _mm512_mul_ps(_mm512_loadu_ps(key_scales + g * 8), terms[c].scale);
      _mm512_storeu_ps(scores + c * kPageTokens + g * 8,
                       _mm512_fmadd_ps(dot, scale, terms[c].base));
    }
  }
}

template <int kColumns>
inline void DotTile(const TileLayout& tile, const Columns& columns, int column,
                    const ScoreTerms* terms, const float* key_scales, int start) {
  constexpr int kGroups = kColumns <= 3 ? 4 : 2;
  const int64_t steps = tile.head_dim / 16;
  const int64_t q_stride = QueryBytes(tile.head_dim);
  const std::byte* q = columns.q_codes + column * q_stride;
  float* scores = columns.scores + column * kPageTokens + start;
  for (int token = 0; token < tile.tokens; token += kGroups * 8) {
    DotTokens<kColumns, kGroups>(columns.scratch + token / 8 * 2 * steps * 64, steps, q, q_stride,
                                 terms + column, key_scales + start + token, scores + token);
  }
}

struct DotFn {
  const TileLayout& tile;
  const Columns& columns;
  const ScoreTerms* terms;
  const float* key_scales;
  int start;
  template <int kColumns>
  void Run(int column) const {
    DotTile<kColumns>(tile, columns, column, terms, key_scales, start);
  }
};

void ScoreTiles(const TileLayout& tile, const PageSide& k, const Columns& columns, int begin,
                int end, int first, int last) noexcept {
  alignas(64) float key_scales[kPageTokens];
  LoadScales(tile, k, first, last, key_scales);
  ScoreTerms terms[kMaxColumns];
  for (int c = begin; c < end; ++c) {
    const float sum = static_cast<float>(columns.q_sum[c]);
    terms[c] = {_mm512_set1_epi32(columns.q_sum[c] * 128),
                _mm512_set1_ps(HasHalf(k) ? 0.5f * sum : 0.0f), _mm512_set1_ps(columns.q_scale[c]),
                _mm512_set1_ps(
                    DotReference(columns.q + c * columns.padded_dim, k.reference, tile.head_dim))};
  }
  for (int start = first / tile.tokens * tile.tokens; start < last; start += tile.tokens) {
    ExpandTile<KeyEmitter>(tile, k.data + start / tile.tokens * k.stride, k, columns.scratch);
    ForColumnBlocks(begin, end, DotFn{tile, columns, terms, key_scales, start});
  }
}

// o = o * keep + weights * values for kBlocks * 16 dims, over quads [first, last) of the page.
template <int kColumns, int kBlocks>
inline void MixDims(const std::byte* values, int64_t row, const Columns& columns, int column,
                    int first, int last, float half, float* o) {
  __m512i high[kColumns][kBlocks], low[kColumns][kBlocks];
#pragma GCC unroll 8
  for (int c = 0; c < kColumns; ++c) {
#pragma GCC unroll 8
    for (int b = 0; b < kBlocks; ++b) high[c][b] = low[c][b] = _mm512_setzero_si512();
  }
  const std::byte* p = columns.p_codes + column * kWeightBytes;
  for (int quad = first; quad < last; ++quad) {
    __m512i x[kBlocks];
#pragma GCC unroll 8
    for (int b = 0; b < kBlocks; ++b) x[b] = _mm512_load_si512(values + quad * row + b * 64);
    const std::byte* w = p + quad / 8 * 64 + quad % 8 * 4;
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) {
      int32_t l, h;
      __builtin_memcpy(&l, w + c * kWeightBytes, 4);
      __builtin_memcpy(&h, w + c * kWeightBytes + 32, 4);
      const __m512i wl = _mm512_set1_epi32(l);
      const __m512i wh = _mm512_set1_epi32(h);
#pragma GCC unroll 8
      for (int b = 0; b < kBlocks; ++b) {
        Dot(high[c][b], wh, x[b]);
        Dot(low[c][b], wl, x[b]);
      }
    }
  }
#pragma GCC unroll 8
  for (int c = 0; c < kColumns; ++c) {
    const __m512 keep = _mm512_set1_ps(columns.keep[column + c]);
    const __m512 scale = _mm512_set1_ps(columns.p_scale[column + c]);
    const __m512 add = _mm512_set1_ps(half * static_cast<float>(columns.p_sum[column + c]));
#pragma GCC unroll 8
    for (int b = 0; b < kBlocks; ++b) {
      const __m512i sum = _mm512_add_epi32(_mm512_slli_epi32(high[c][b], 8), low[c][b]);
      float* at = o + c * columns.padded_dim + b * 16;
      const __m512 old = _mm512_mul_ps(_mm512_loadu_ps(at), keep);
      _mm512_storeu_ps(at,
                       _mm512_fmadd_ps(_mm512_add_ps(_mm512_cvtepi32_ps(sum), add), scale, old));
    }
  }
}

struct MixFn {
  const TileLayout& tile;
  const Columns& columns;
  int first;  // quads
  int last;
  float half;
  template <int kColumns>
  void Run(int column) const {
    constexpr int kBlocks = kColumns <= 3 ? 4 : 2;
    const int blocks = tile.head_dim / 16;
    float* o = columns.o + column * columns.padded_dim;
    int b = 0;
    for (; b + kBlocks <= blocks; b += kBlocks) {
      MixDims<kColumns, kBlocks>(columns.scratch + b * 64, blocks * 64, columns, column, first,
                                 last, half, o + b * 16);
    }
    for (; b < blocks; ++b) {
      MixDims<kColumns, 1>(columns.scratch + b * 64, blocks * 64, columns, column, first, last,
                           half, o + b * 16);
    }
  }
};

void MixTiles(const TileLayout& tile, const PageSide& v, const Columns& columns, int begin, int end,
              int first, int last) noexcept {
  const int start = first / tile.tokens * tile.tokens;
  int stop = start;
  for (; stop < last; stop += tile.tokens) {
    ExpandTile<ValueEmitter>(tile, v.data + stop / tile.tokens * v.stride, v,
                             columns.scratch + stop * tile.head_dim);
  }
  ForColumnBlocks(begin, end, MixFn{tile, columns, start / 4, stop / 4, HasHalf(v) ? 0.5f : 0.0f});
}

}  // namespace

const AttentionKernels kAttentionKernels = {
    QueryBytes, ScratchBytes, PrepareQueries, ScoreTiles, ScoreRows, LoadScales, Weigh,
    MixTiles,   MixRows,      PackKeys,       PackValues, Multiply,  WeighRow};

}  // namespace tq::avx512
