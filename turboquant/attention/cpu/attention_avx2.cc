// SPDX-License-Identifier: Apache-2.0
// Attention kernels for AVX2: 16-bit queries and 15-bit weights against levels + 128 in 16 bits, in
// pairs (vpmaddwd). Sums wrap on the way and fit int32 once 128 times the sum of the queries or
// weights is taken off.
#include <math.h>

#include "turboquant/attention/cpu/attention_kernels.h"
#include "turboquant/attention/cpu/expand_avx2.h"
#include "turboquant/attention/cpu/vec_avx2.h"
#include "turboquant/attention/online_softmax.h"
#include "turboquant/codec/cpu/intrinsics.h"

namespace tq::avx2 {
namespace {

constexpr float kWeightLevels = 32760;

inline float HalfBitsToFloat(uint16_t bits) { return _cvtsh_ss(bits); }

inline __m256i LoadInts(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}

inline int32_t SumInts(__m256i x) {
  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4E));
  return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xB1)));
}

// Sixteen floats times factor, rounded to 16-bit integers in order; adds them to *sum.
inline __m256i RoundToWords(const float* x, __m256 factor, __m256i* sum) {
  const __m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), factor));
  const __m256i b = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8), factor));
  *sum = _mm256_add_epi32(*sum, _mm256_add_epi32(a, b));
  return _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xD8);
}

// In token order.
inline int32_t QuantiseWeights(const float* weights, float factor, std::byte* codes) {
  const __m256 f = _mm256_set1_ps(factor);
  __m256i sum = _mm256_setzero_si256();
  for (int i = 0; i < kPageTokens; i += 16)
    Store(codes + 2 * i, RoundToWords(weights + i, f, &sum));
  return SumInts(sum);
}

#include "turboquant/attention/cpu/panel_kernels.inl"
#include "turboquant/attention/cpu/row_kernels.inl"
#include "turboquant/attention/cpu/softmax_kernels.inl"
#include "turboquant/attention/cpu/tile_kernels.inl"

// Four dims as {0, 2, 1, 3}. Rounded up to whole cache lines.
int64_t QueryBytes(int head_dim) { return (head_dim * int64_t{2} + 63) / 64 * 64; }

// Float rows, a tile of keys or up to a page of values.
int64_t ScratchBytes(int padded_dim) { return static_cast<int64_t>(padded_dim) * kPageTokens * 2; }

void PrepareQueries(const Columns& columns) noexcept {
  const int dims = columns.head_dim;
  for (int c = 0; c < columns.count; ++c) {
    const float* q = columns.q + c * columns.padded_dim;
    const __m256 sign = _mm256_set1_ps(-0.0f);
    __m256 largest = _mm256_setzero_ps();
    for (int d = 0; d < dims; d += 8) {
      largest = _mm256_max_ps(largest, _mm256_andnot_ps(sign, _mm256_loadu_ps(q + d)));
    }
    const float top = Vec::Largest(largest);
    const bool any = top > 1e-30f;
    columns.q_scale[c] = any ? top / kQueryLevels : 0.0f;
    const __m256 factor = _mm256_set1_ps(any ? kQueryLevels / top : 0.0f);
    std::byte* out = columns.q_codes + c * QueryBytes(dims);
    __m256i sum = _mm256_setzero_si256();
    for (int d = 0; d < dims; d += 16) {
      const __m256i x = RoundToWords(q + d, factor, &sum);
      Store(out + 2 * d, _mm256_shufflehi_epi16(_mm256_shufflelo_epi16(x, 0xD8), 0xD8));
    }
    columns.q_sum[c] = SumInts(sum);
  }
}

void LoadScales(const TileLayout& tile, const PageSide& side, int first, int last,
                float* out) noexcept {
  for (int token = first / 32 * 32; token < last; token += 32) {
    const std::byte* block = side.scales + token / tile.tokens * side.stride +
                             token % tile.tokens * 4 + side.scale_offset;
    __m128i g[8];  // tokens g, g + 8, g + 16, g + 24
    for (int i = 0; i < 8; ++i) {
      g[i] = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(block + 16 * i));
    }
    const __m128i g01 = _mm_unpacklo_epi16(g[0], g[1]), g23 = _mm_unpacklo_epi16(g[2], g[3]);
    const __m128i g45 = _mm_unpacklo_epi16(g[4], g[5]), g67 = _mm_unpacklo_epi16(g[6], g[7]);
    const __m128i a = _mm_unpacklo_epi32(g01, g23), b = _mm_unpackhi_epi32(g01, g23);
    const __m128i c = _mm_unpacklo_epi32(g45, g67), d = _mm_unpackhi_epi32(g45, g67);
    _mm256_storeu_ps(out + token, _mm256_cvtph_ps(_mm_unpacklo_epi64(a, c)));
    _mm256_storeu_ps(out + token + 8, _mm256_cvtph_ps(_mm_unpackhi_epi64(a, c)));
    _mm256_storeu_ps(out + token + 16, _mm256_cvtph_ps(_mm_unpacklo_epi64(b, d)));
    _mm256_storeu_ps(out + token + 24, _mm256_cvtph_ps(_mm_unpackhi_epi64(b, d)));
  }
  for (int i = 0; i < first; ++i) out[i] = 0;
  for (int i = last; i < kPageTokens; ++i) out[i] = 0;
}

// sum[r][c] += a[r] . b[c] in pairs of words, over `steps` steps. a: kRows vectors, `a_row` bytes
// apart, the next step's `a_step` further; b: a dword of each of kColumns columns per step.
template <int kRows, int kColumns>
[[gnu::always_inline]] inline void DotWords(const std::byte* a, int64_t a_row, int64_t a_step,
                                            const std::byte* b, int64_t b_column, int64_t steps,
                                            __m256i (&sum)[kRows][kColumns]) {
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) sum[r][c] = _mm256_setzero_si256();
  }
  for (int64_t s = 0; s < steps; ++s) {
    __m256i x[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) x[r] = LoadInts(a + r * a_row);
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) {
      int32_t pair;
      __builtin_memcpy(&pair, b + c * b_column, 4);
      const __m256i y = _mm256_set1_epi32(pair);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        sum[r][c] = _mm256_add_epi32(sum[r][c], _mm256_madd_epi16(x[r], y));
      }
    }
    a += a_step;
    b += 4;
  }
}

// What turns a column's integer sums into scores.
struct ScoreTerms {
  int32_t offset;  // 128 * sum of the query
  float half;      // 4 bits: half the sum of the query
  float scale;
  float base;  // q . r
};

struct DotFn {
  const TileLayout& tile;
  const Columns& columns;
  const ScoreTerms* terms;
  const float* key_scales;
  int start;

  template <int kColumns>
  void Run(int column) const {
    constexpr int kGroups = kColumns == 1 ? 4 : 2;
    const int64_t group_bytes = tile.head_dim * int64_t{16};
    const int64_t q_stride = QueryBytes(tile.head_dim);
    for (int token = 0; token < tile.tokens; token += kGroups * 8) {
      __m256i sum[kGroups][kColumns];
      DotWords<kGroups, kColumns>(columns.scratch + token / 8 * group_bytes, group_bytes, 32,
                                  columns.q_codes + column * q_stride, q_stride, tile.head_dim / 2,
                                  sum);
#pragma GCC unroll 8
      for (int c = 0; c < kColumns; ++c) {
        const ScoreTerms& term = terms[column + c];
        float* scores = columns.scores + (column + c) * kPageTokens + start + token;
#pragma GCC unroll 4
        for (int g = 0; g < kGroups; ++g) {
          const __m256 dot = _mm256_add_ps(
              _mm256_cvtepi32_ps(_mm256_sub_epi32(sum[g][c], _mm256_set1_epi32(term.offset))),
              _mm256_set1_ps(term.half));
          const __m256 scale = _mm256_mul_ps(_mm256_loadu_ps(key_scales + start + token + g * 8),
                                             _mm256_set1_ps(term.scale));
          _mm256_storeu_ps(scores + g * 8, _mm256_fmadd_ps(dot, scale, _mm256_set1_ps(term.base)));
        }
      }
    }
  }
};

void ScoreTiles(const TileLayout& tile, const PageSide& k, const Columns& columns, int begin,
                int end, int first, int last) noexcept {
  alignas(32) float key_scales[kPageTokens];
  LoadScales(tile, k, first, last, key_scales);
  ScoreTerms terms[kMaxColumns];
  for (int c = begin; c < end; ++c) {
    terms[c] = {columns.q_sum[c] * 128,
                HasHalf(k) ? 0.5f * static_cast<float>(columns.q_sum[c]) : 0.0f, columns.q_scale[c],
                DotReference(columns.q + c * columns.padded_dim, k.reference, tile.head_dim)};
  }
  for (int start = first / tile.tokens * tile.tokens; start < last; start += tile.tokens) {
    ExpandTile<KeyPlaces>(tile, k.data + start / tile.tokens * k.stride, k, columns.scratch);
    ForColumnBlocks(begin, end, DotFn{tile, columns, terms, key_scales, start});
  }
}

// o = o * keep + weights * values, over tokens [start, stop) of the page.
struct MixFn {
  const TileLayout& tile;
  const Columns& columns;
  int start;
  int stop;
  bool is_first;  // of the page: o is still to be multiplied by keep
  float half;     // 4 bits: what levels lack

  template <int kColumns>
  void Run(int column) const {
    constexpr int kVectors = kColumns == 1 ? 4 : 2;
    const std::byte* p = columns.p_codes + column * kWeightBytes + start * 2;
    int32_t weights[kColumns];
    for (int c = 0; c < kColumns; ++c) weights[c] = WeightSum(p + c * kWeightBytes);
    int d = 0;
    for (; d + kVectors * 8 <= tile.head_dim; d += kVectors * 8) {
      Mix<kColumns, kVectors>(column, d, p, weights);
    }
    if (d < tile.head_dim) Mix<kColumns, 2>(column, d, p, weights);
  }

  template <int kColumns, int kVectors>
  void Mix(int column, int d, const std::byte* p, const int32_t* weights) const {
    __m256i sum[kVectors][kColumns];
    DotWords<kVectors, kColumns>(columns.scratch + d * 4, 32, tile.head_dim * int64_t{4}, p,
                                 kWeightBytes, (stop - start) / 2, sum);
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) {
      const __m256 keep = _mm256_set1_ps(is_first ? columns.keep[column + c] : 1.0f);
      const __m256 scale = _mm256_set1_ps(columns.p_scale[column + c]);
      const __m256i offset = _mm256_set1_epi32(128 * weights[c]);
      const __m256 add = _mm256_set1_ps(half * static_cast<float>(weights[c]));
      float* o = columns.o + (column + c) * columns.padded_dim + d;
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const __m256 dot =
            _mm256_add_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(sum[v][c], offset)), add);
        const __m256 old = _mm256_mul_ps(_mm256_loadu_ps(o + v * 8), keep);
        _mm256_storeu_ps(o + v * 8, _mm256_fmadd_ps(dot, scale, old));
      }
    }
  }

  // Of tokens [start, stop).
  int32_t WeightSum(const std::byte* p) const {
    __m256i sum = _mm256_setzero_si256();
    const __m256i one = _mm256_set1_epi16(1);
    for (int i = 0; i < stop - start; i += 16) {
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(LoadInts(p + 2 * i), one));
    }
    return SumInts(sum);
  }
};

// Values that are expanded at a time stay in L1 with room to spare.
constexpr int kValueBytes = 16384;

void MixTiles(const TileLayout& tile, const PageSide& v, const Columns& columns, int begin, int end,
              int first, int last) noexcept {
  const int tiles = kValueBytes / (tile.head_dim * tile.tokens * 2);
  const int chunk = (tiles > 1 ? tiles : 1) * tile.tokens;
  bool is_first = true;
  for (int start = first / tile.tokens * tile.tokens; start < last;) {
    int stop = start;
    for (; stop < last && stop < start + chunk; stop += tile.tokens) {
      ExpandTile<ValuePlaces>(tile, v.data + stop / tile.tokens * v.stride, v,
                              columns.scratch + (stop - start) * tile.head_dim * 2);
    }
    ForColumnBlocks(begin, end,
                    MixFn{tile, columns, start, stop, is_first, HasHalf(v) ? 0.5f : 0.0f});
    is_first = false;
    start = stop;
  }
}

}  // namespace

const AttentionKernels kAttentionKernels = {
    QueryBytes, ScratchBytes, PrepareQueries, ScoreTiles, ScoreRows, LoadScales, Weigh,
    MixTiles,   MixRows,      PackKeys,       PackValues, Multiply,  WeighRow};

}  // namespace tq::avx2
