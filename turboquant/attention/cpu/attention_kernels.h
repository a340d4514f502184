// SPDX-License-Identifier: Apache-2.0
// What one instruction set offers to attention, and the plain data it works on. A *column* is one
// query head of one query token; columns of a work item share a KV head. Kernels do not allocate.
//
// Decode, per page: Score{Tiles,Rows} -> Weigh -> Mix{Tiles,Rows}. K and V are independent of each
// other in codec. The order in which 16-bit queries, weights and expanded codes lie in memory is
// each instruction set's own business.
#pragma once

#include <cstddef>
#include <cstdint>

#include "turboquant/base/cpu_isa.h"
#include "turboquant/base/matrix_view.h"
#include "turboquant/codec/page_layout.h"

namespace tq {

inline constexpr int kMaxColumns = 32;        // of a decode work item
inline constexpr int kWeightBytes = 256;      // 128 16-bit weights of a column
inline constexpr int kPanelWidth = 64;        // floats of a stripe of a packed panel
inline constexpr float kQueryLevels = 32600;  // 512 * 32600 * 127 < 2^31: scores fit int32

// Floats of a head vector in workspaces: rows are padded to whole vectors.
constexpr int PaddedDim(int head_dim) { return (head_dim + 15) / 16 * 16; }

// One side of one head block of a page.
struct PageSide {
  const std::byte* data = nullptr;       // codes of tile 0, or row 0
  const std::byte* scales = nullptr;     // tiles: scales of tile 0, both sides
  int scale_offset = 0;                  // of this side within each 16 bytes of them
  const std::byte* reference = nullptr;  // keys in tiles: f16 r [D]
  int64_t stride = 0;                    // bytes from tile to tile, or from row to row
  int bits = 0;                          // of codes in tiles; 0: rows
  bool trellis = false;                  // codes of codec/trellis.h
  Codec codec = Codec::kF32;
};
// Levels that lack the half which is added to sums.
inline bool HasHalf(const PageSide& side) { return side.bits == 4 && !side.trellis; }
PageSide KeySide(const PageLayout& layout, const std::byte* head);
PageSide ValueSide(const PageLayout& layout, const std::byte* head);

// Columns of a decode work item; arrays are [count] or [count][...].
struct Columns {
  int head_dim;
  int padded_dim;
  int count;
  float* q;            // [count][padded_dim] times scale and log2 e, zero beyond head_dim
  std::byte* q_codes;  // [count][query_bytes]: 16-bit integers, kernel order
  float* q_scale;      // q = integer * q_scale
  int32_t* q_sum;      // sum of the integers
  float* scores;       // [count][128]: scores in base 2; after Weigh for rows: weights
  std::byte* p_codes;  // [count][kWeightBytes]: integer weights, kernel order
  float* p_scale;      // weight times V scale = integer * p_scale
  int32_t* p_sum;      // sum of the integers
  float* keep;         // what o so far is multiplied by when this page is mixed in
  float* m;            // online softmax state, online_softmax.h
  float* l;
  float* o;            // [count][padded_dim]
  std::byte* scratch;  // scratch_bytes
};

// Ranges: columns [begin, end), tokens [first, last) of the page. Scores outside of a column's own
// range may be anything.
struct AttentionKernels {
  int64_t (*QueryBytes)(int head_dim);
  int64_t (*ScratchBytes)(int padded_dim);

  // q -> q_codes, q_scale, q_sum.
  void (*PrepareQueries)(const Columns&) noexcept;

  // scores = q . (r + level * scale), integer dot products.
  void (*ScoreTiles)(const TileLayout&, const PageSide& k, const Columns&, int begin, int end,
                     int first, int last) noexcept;
  void (*ScoreRows)(const PageSide& k, const Columns&, int begin, int end, int first,
                    int last) noexcept;

  // f16 scales of tokens [first, last) to out [128], zero elsewhere.
  void (*LoadScales)(const TileLayout&, const PageSide&, int first, int last, float* out) noexcept;

  // Online softmax of one column over tokens [first, last): updates m, l and keep; leaves weights
  // as block-float integers times value_scales [128], or, if that is null, as floats in scores.
  void (*Weigh)(const Columns&, int column, int first, int last,
                const float* value_scales) noexcept;

  // o = o * keep + sum of weights times values.
  void (*MixTiles)(const TileLayout&, const PageSide& v, const Columns&, int begin, int end,
                   int first, int last) noexcept;
  void (*MixRows)(const PageSide& v, const Columns&, int begin, int end, int first,
                  int last) noexcept;

  // Prefill. A panel is a matrix [K][N] in stripes of kPanelWidth columns, each [K][width].
  // rows [n][D] -> panel of the transpose [padded_dim][128]; missing rows and dims are zero.
  void (*PackKeys)(MatrixView<const float> rows, int padded_dim, float* panel) noexcept;
  // rows [n][D] -> panel [128][padded_dim].
  void (*PackValues)(MatrixView<const float> rows, int padded_dim, float* panel) noexcept;
  // c [M][N] = a [M][K] * the first K rows of a panel of panel_rows rows (+ c * keep[row] if keep
  // is not null).
  void (*Multiply)(MatrixView<const float> a, const float* panel, int panel_rows, const float* keep,
                   MatrixView<float> c) noexcept;
  // One row of scores [128] -> weights, tokens outside [first, last) zero; updates m and l, returns
  // what o so far is to be multiplied by.
  float (*WeighRow)(float* scores, int first, int last, float* m, float* l) noexcept;
};

namespace scalar {
extern const AttentionKernels kAttentionKernels;
}
namespace avx2 {
extern const AttentionKernels kAttentionKernels;
}
namespace avx512 {
extern const AttentionKernels kAttentionKernels;
}

const AttentionKernels& GetAttentionKernels(Isa isa);

}  // namespace tq
