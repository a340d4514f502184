// SPDX-License-Identifier: Apache-2.0
// The parameter block of the decode kernels, filled by decode_attention.cc: plain data.
#pragma once

#include <cstddef>
#include <cstdint>

#include "turboquant/attention/cuda/decode_units.h"
#include "turboquant/codec/cuda/level_tables.h"
#include "turboquant/codec/cuda/rotation_table.h"
#include "turboquant/kv/cuda/device_tables.h"
#include "turboquant/kv/cuda/page_forms.h"

namespace tq::cuda {

// Division by a number that the host knows, as a product: exact while n * divisor < 2^32.
struct Divisor {
  uint64_t inverse;

  static constexpr Divisor Of(int n) {
    const auto divisor = static_cast<uint64_t>(n);
    return {((uint64_t{1} << 32) + divisor - 1) / divisor};
  }
  constexpr uint32_t Divide(uint32_t n) const { return static_cast<uint32_t>(n * inverse >> 32); }
};

inline constexpr int kMostDecodeWarps = 12;  // of a block

// Pages of one form at this layer, seen by a kernel. Offsets are bytes.
struct PageForm {
  Codec k;
  Codec v;
  int step_log;         // log2 of the steps that a page is taken in
  uint32_t head_bytes;  // stride of head blocks, in which reference vectors come first
  uint32_t tile_bytes;
  uint32_t v_offset;  // within a tile
  uint32_t scale_offset;
  uint64_t layer_offset;  // within a page block
};

struct DecodeParams {
  StepTables tables;
  const std::byte* arena;
  PageForm open;
  PageForm sealed;
  Visibility visibility;
  const float* q;
  float* out;
  int64_t q_stride;
  int64_t out_stride;
  int kv_heads;
  int group;        // query heads per KV head
  int items;        // column items per KV head
  int step_warps;   // warps that share a step, each with its own columns if the kernel is not wide
  int phases;       // of a block: its warps over step_warps, each with its own steps
  int columns_log;  // log2 of the query rows of a block
  int crews;        // segments that a block takes at once
  int blocks;       // of the grid
  int parts;        // blocks per head if heads are equally long; 0: they do not divide the grid
  Divisor by_group;
  Divisor by_blocks;
  Divisor by_parts;
  Divisor by[kMostDecodeWarps + 1];  // by a number of warps
  float score_scale;                 // scale * log2(e)
  bool rotate_q;
  bool rotate_out;
  bool overlap;     // with the kernel before
  int stage_bytes;  // of one step in shared memory
  int min_units;    // a block takes at least as many units
  // Workspace: [2 blocks][rows (D + 2)]: O, then m and l of a part.
  float* partials;
  // Large, and not needed at once.
  RotationTable q_rotation;
  RotationTable out_rotation;
  uint32_t levels[kLevelTableWords];  // level_tables.h
  // Of pages that age, which the instance for any pair of codecs takes.
  AgeWindows ages;
  PageForm aged[kMaxAges];

  // Heads that the merging kernel looks at: all or, if they are more, those that begin in a block
  // and end in another.
  constexpr int heads() const { return tables.slots * kv_heads * items; }
  constexpr bool merges_by_block() const { return heads() >= blocks; }
  constexpr int merges() const { return merges_by_block() ? blocks - 1 : heads(); }

  constexpr FormEnds EndsOfSlot(int slot) const { return EndsOf(tables, visibility, ages, slot); }
  constexpr const PageForm& Form(int form) const {
    return form == kOpenForm ? open : form == kSealedForm ? sealed : aged[form - kSealedForm - 1];
  }
};

}  // namespace tq::cuda
