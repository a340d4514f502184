// SPDX-License-Identifier: Apache-2.0
// Parameter blocks of the page kernels, filled by page_kernels.cc: plain data.
#pragma once

#include "turboquant/codec/codebook.h"
#include "turboquant/codec/cpu/tile_side.h"
#include "turboquant/codec/cuda/rotation_table.h"
#include "turboquant/kv/cuda/device_tables.h"
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

struct EncodeParams {
  StepTables tables;
  std::byte* arena;
  PageSides open;
  PageSides sealed;
  float* k;
  float* v;
  int64_t k_stride;
  int64_t v_stride;
  bool rotate_k;
  bool rotate_v;
  RotationTable k_rotation;
  RotationTable v_rotation;
  const float* mean;
  bool centring;
  int kv_heads;
  int pages;  // that the tokens of a slot may touch at most
};

inline constexpr int kSealBatch = 64;
struct SealParams {
  std::byte* arena;
  PageSides open;
  PageSides sealed;
  Codebook k_book;  // of the sealed codecs
  Codebook v_book;
  float k_gain;  // CodebookGain
  float v_gain;
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
};

using EncodeKernelFn = void (*)(EncodeParams);
using SealKernelFn = void (*)(SealParams);
using DequantizeKernelFn = void (*)(DequantizeParams);

// Null if there is none for the head dim. Blocks: encode slots x kv_heads x (1 + pages); seal one
// per job; dequantize pages x kv_heads x 2.
EncodeKernelFn EncodeKernelOf(int head_dim);
SealKernelFn SealKernelOf(int head_dim);
DequantizeKernelFn DequantizeKernelOf(int head_dim);

inline constexpr int kPageThreads = 256;
constexpr int EncodeMemory(int head_dim) { return kPageThreads / 32 * head_dim * 4; }
// Codes of a page and the sealed reference.
constexpr int SealMemory(int head_dim) { return kPageTokens * head_dim + head_dim * 4; }
// One side's values of a page as f16.
constexpr int DequantizeMemory(int head_dim) { return kPageTokens * head_dim * 2; }

}  // namespace tq::cuda
