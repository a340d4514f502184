// SPDX-License-Identifier: Apache-2.0
// Parameter blocks of the page kernels, filled by page_kernels.cc: plain data.
#pragma once

#include "turboquant/codec/codebook.h"
#include "turboquant/codec/cpu/tile_side.h"
#include "turboquant/codec/cuda/rotation_table.h"
#include "turboquant/codec/trellis_search.h"
#include "turboquant/kv/cuda/device_tables.h"
#include "turboquant/kv/cuda/page_forms.h"
#include "turboquant/kv/cuda/page_kernels.h"

namespace tq::cuda {

// A page of one form as its two sides.
struct PageSides {
  TileSide k;
  TileSide v;
  uint32_t reference_offset;
  uint32_t tiles_offset;
  uint32_t head_bytes;
  uint64_t layer_offset;  // within a page block; 0 where jobs carry offsets
};

// A side as the compiler may know it: places in a page then take no divisions.
template <int kDim, Side kSide>
constexpr TileSide FixedSide(const PageSides& sides) {
  TileSide side = kSide == Side::kKey ? sides.k : sides.v;
  side.tile = MakeTileLayout(kDim);
  side.side = kSide;
  return side;
}

struct EncodeParams {
  StepTables tables;
  std::byte* arena;
  PageSides open;
  PageSides sealed;
  float* k;
  float* v;
  int64_t k_stride;
  int64_t v_stride;
  float* kept_keys;  // [rows][G][D], of a spread step
  bool rotate_k;
  bool rotate_v;
  RotationTable k_rotation;
  RotationTable v_rotation;
  const float* mean;
  bool centring;
  int kv_heads;
  int pages;    // that the tokens of a slot may touch at most
  bool spread;  // keys in tiles are rotated and kept only: the chain kernel encodes them
  int num_aged;
  PageSides aged[kMaxAges];

  constexpr const PageSides& Sealed(int form) const {
    return form == kSealedForm ? sealed : aged[form - kSealedForm - 1];
  }
};

inline constexpr int kSealBatch = 256;  // 6 KiB of parameters
struct SealParams {
  std::byte* arena;
  PageSides open;  // or, of pages that age, sealed at more bits
  PageSides sealed;
  Codebook k_book;  // of the sealed codecs
  Codebook v_book;
  Trellis k_trellis;
  Trellis v_trellis;
  float k_gain;  // CodebookGain or TrellisGain
  float v_gain;
  TrellisMoves moves;  // of this launch's side
  SealJob jobs[kSealBatch];
};

struct DequantizeParams {
  StepTables tables;
  const std::byte* arena;
  PageSides open;
  PageSides sealed;
  Visibility visibility;
  int slot;
  int64_t position;
  int64_t first;
  int count;
  int kv_heads;
  uint16_t* k;
  uint16_t* v;
  AgeWindows ages;
  PageSides aged[kMaxAges];
};

// Where a job's reference vector is, if it need not be computed: null or a head block in open form.
constexpr const std::byte* PageBehind(const SealParams& p, const SealJob& job) {
  return job.behind_offset == kNoOffset ? nullptr : p.arena + job.behind_offset;
}

using EncodeKernelFn = void (*)(EncodeParams);
using SealKernelFn = void (*)(SealParams);
using DequantizeKernelFn = void (*)(DequantizeParams);

// Null if there is none for the head dim. Blocks: encode slots x kv_heads x (1 + pages), spread
// slots x kv_heads x 2 pages x kEncodeSlices; key chain, after it, slots x kv_heads; seal one per
// job; trellis TrellisBlocksOfPage a job; dequantize pages x kv_heads x 2. Seal writes a trellis
// side's reference only, if it is not in the page behind; a trellis kernel for each such side does
// the rest, for keys after it.
EncodeKernelFn EncodeKernelOf(int head_dim);
EncodeKernelFn KeyChainKernelOf(int head_dim);
SealKernelFn SealKernelOf(int head_dim);
SealKernelFn TrellisSealKernelOf(int head_dim, Side side, int bits);
// Fills the table of costs, levels and uncoded bits that the trellis kernels of these bits read:
// launched before them.
using TrellisCostsKernelFn = void (*)(Trellis);  // a parameter: device code cannot read the host's
TrellisCostsKernelFn TrellisCostsKernelOf();
inline constexpr int kTrellisCostsThreads = 128;
inline constexpr int kTrellisCostsBlocks =
    (kTrellisInputs + kTrellisCostsThreads - 1) / kTrellisCostsThreads;
DequantizeKernelFn DequantizeKernelOf(int head_dim);

inline constexpr int kPageThreads = 256;
constexpr int EncodeMemory(int head_dim) { return kPageThreads / 32 * QuadScratchBytes(head_dim); }
inline constexpr int kEncodeSlices = 4;  // of a page, where pages are encoded beside each other
// Two heads to a block, which then has a multiprocessor to itself beside a search, were slower by
// .2 % of a prompt: it has to be empty before they begin.
inline constexpr int kChainThreads = 512;
// Batches of tokens on their way, of so many quads a lane: beside kernels that take all of the
// memory's speed a load is under way for longer than a batch takes. As many as fit the 99 KiB that
// a block has on smaller GPUs.
inline constexpr int kChainQuads = 4;
constexpr int ChainAhead(int head_dim) { return head_dim == 192 || head_dim == 256 ? 2 : 1; }
// Reference, scales and codes of a page; tokens on their way.
constexpr int KeyChainMemory(int head_dim) {
  return head_dim * 4 + kPageTokens * 4 + kPageTokens * head_dim +
         ChainAhead(head_dim) * kChainThreads * kChainQuads * 16;
}
// One side of a page: rows of bytes, and floats by token or dim. Offsets in bytes.
struct SealMemory {
  int row_bytes;
  int scales;
  int norms;
  int gains;
  int old_reference;
  int reference;
  int size;
};
constexpr SealMemory MakeSealMemory(int head_dim) {
  SealMemory m = {};
  m.row_bytes = head_dim + 4;
  m.scales = kPageTokens * m.row_bytes;
  m.norms = m.scales + kPageTokens * 4;
  m.gains = m.norms + kPageTokens * 4;
  m.old_reference = m.gains + kPageTokens * 4;
  m.reference = m.old_reference + head_dim * 4;
  m.size = m.reference + head_dim * 4;
  return m;
}
// One side's values of a page as f16, rows padded so that neighbours differ in banks, and what its
// units share. Offsets in bytes.
struct DequantizeMemory {
  int row_halves;
  int scales;     // float per token
  int reference;  // float per dim, in four padded quarters
  int size;
};
constexpr DequantizeMemory MakeDequantizeMemory(int head_dim) {
  DequantizeMemory m = {};
  m.row_halves = head_dim + 8;
  m.scales = kPageTokens * m.row_halves * 2;
  m.reference = m.scales + kPageTokens * 4;
  m.size = m.reference + (head_dim + 4 * 8) * 4;
  return m;
}

}  // namespace tq::cuda
