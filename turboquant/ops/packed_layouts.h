// SPDX-License-Identifier: Apache-2.0
// How a weight matrix [N, K] lies in memory. Rows are grouped into panels of 16 (the last one
// padded with zero rows); a panel is contiguous, panels follow each other, and a matrix-vector
// product streams them from front to back.
//
// Block-quantised layouts: value = scale * (code - zero) [+ offset], per group of 32 (or 2 x 16)
// columns.
//   panel = one record per 32 columns, or per 256 in layouts with super-blocks: its scales, then
//   the codes of its groups. Scales and codes lie beside each other so that a panel is one stream,
//   which is what hardware prefetchers follow. codes, per group of 32 columns, 64 * bits bytes.
//   Logical code vector i (0..7) holds columns 4i..4i+3 of the 16
//     rows: byte 4 * row + column % 4, the order integer dot-product instructions want. Stored as
//     planes of 64-byte vectors:
//       bits 8                      vectors 0..7 as they are
//       nibbles (bits 4, 5, 6)      vector p = 0..3: low nibble of code vector p, high of p + 4
//       bit pairs (bits 2, 3, 6)    vector q = 0, 1: bits 2s, 2s + 1 belong to code vector 4q + s
//       single bit (bits 3, 5)      bit s belongs to code vector s
//     in this order; later planes hold the upper bits of a code.
//   scales, by ScaleKind, always 16 rows beside each other (f16 = 2 bytes, others 1 byte):
//       kHalf        per 32:  d f16
//       kHalfMin     per 32:  d f16, m f16                       value = d * code + m
//       kSuper32     per 256: d f16, then per 32: s int8         value = d * s * (code - zero)
//       kSuper16     per 256: d f16, then per 16: s int8
//       kSuperMin32  per 256: d f16, dmin f16, then per 32: s uint8, m uint8
//                                                          value = d * s * code - dmin * m
//       kSuperMin16  per 256: d f16, dmin f16, then per 16: s | m << 4    the same
// Float layouts: panel = [K][16 rows] of f16, bf16 or f32.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "turboquant/gguf/block_formats.h"

namespace tq {

inline constexpr int kPanelRows = 16;
inline constexpr int kGroupColumns = 32;
inline constexpr int kSuperColumns = 256;
inline constexpr int kGroupsPerSuper = kSuperColumns / kGroupColumns;

enum class ScaleKind : uint8_t {
  kNone,
  kHalf,
  kHalfMin,
  kSuper32,
  kSuper16,
  kSuperMin32,
  kSuperMin16
};

constexpr bool HasMin(ScaleKind kind) {
  return kind == ScaleKind::kHalfMin || kind == ScaleKind::kSuperMin32 ||
         kind == ScaleKind::kSuperMin16;
}
constexpr bool HasSuper(ScaleKind kind) { return kind >= ScaleKind::kSuper32; }
constexpr bool HasGroups16(ScaleKind kind) {
  return kind == ScaleKind::kSuper16 || kind == ScaleKind::kSuperMin16;
}

struct PackedLayout {
  BlockFormat format;  // what it is made from
  std::string_view name;
  int bits;  // per code; of a value in float layouts
  ScaleKind scales;
  int zero;    // code of value 0, where there is no offset
  bool table;  // codes go through the 16 levels of IQ4 (levels + 128)

  constexpr bool quantised() const { return scales != ScaleKind::kNone; }
  // Columns that one record covers.
  constexpr int64_t record_columns() const {
    return HasSuper(scales) ? kSuperColumns : kGroupColumns;
  }
  constexpr int64_t scale_bytes() const {
    switch (scales) {
      case ScaleKind::kHalf:
        return 32;
      case ScaleKind::kHalfMin:
        return 64;
      case ScaleKind::kSuper32:
        return 32 + 8 * 16;
      case ScaleKind::kSuper16:
        return 32 + 16 * 16;
      case ScaleKind::kSuperMin32:
        return 64 + 8 * 32;
      case ScaleKind::kSuperMin16:
        return 64 + 16 * 16;
      case ScaleKind::kNone:
        break;
    }
    return 0;
  }
  constexpr int64_t group_bytes() const { return 64 * bits; }
  constexpr int64_t record_bytes() const {
    return scale_bytes() + record_columns() / kGroupColumns * group_bytes();
  }
  // Bytes from the start of a panel to column `column` (the first one of a record).
  constexpr int64_t offset_of(int64_t column) const {
    return quantised() ? column / record_columns() * record_bytes()
                       : column * kPanelRows * bits / 8;
  }
  constexpr int64_t panel_bytes(int64_t cols) const { return (offset_of(cols) + 63) / 64 * 64; }
};

// One layout per row; the kernel tables have the same order.
inline constexpr std::array kPackedLayouts = {
    PackedLayout{BlockFormat::kQ4_0, "4-bit/32", 4, ScaleKind::kHalf, 8, false},
    PackedLayout{BlockFormat::kQ4_1, "4-bit/32+min", 4, ScaleKind::kHalfMin, 0, false},
    PackedLayout{BlockFormat::kQ5_0, "5-bit/32", 5, ScaleKind::kHalf, 16, false},
    PackedLayout{BlockFormat::kQ5_1, "5-bit/32+min", 5, ScaleKind::kHalfMin, 0, false},
    PackedLayout{BlockFormat::kQ8_0, "8-bit/32", 8, ScaleKind::kHalf, 128, false},
    PackedLayout{BlockFormat::kIQ4_NL, "4-bit-levels/32", 4, ScaleKind::kHalf, 128, true},
    PackedLayout{BlockFormat::kQ2_K, "2-bit/16/256+min", 2, ScaleKind::kSuperMin16, 0, false},
    PackedLayout{BlockFormat::kQ3_K, "3-bit/16/256", 3, ScaleKind::kSuper16, 4, false},
    PackedLayout{BlockFormat::kQ4_K, "4-bit/32/256+min", 4, ScaleKind::kSuperMin32, 0, false},
    PackedLayout{BlockFormat::kQ5_K, "5-bit/32/256+min", 5, ScaleKind::kSuperMin32, 0, false},
    PackedLayout{BlockFormat::kQ6_K, "6-bit/16/256", 6, ScaleKind::kSuper16, 32, false},
    PackedLayout{BlockFormat::kIQ4_XS, "4-bit-levels/32/256", 4, ScaleKind::kSuper32, 128, true},
    PackedLayout{BlockFormat::kF16, "f16", 16, ScaleKind::kNone, 0, false},
    PackedLayout{BlockFormat::kBF16, "bf16", 16, ScaleKind::kNone, 0, false},
    PackedLayout{BlockFormat::kF32, "f32", 32, ScaleKind::kNone, 0, false},
};
inline constexpr int kNumPackedLayouts = static_cast<int>(kPackedLayouts.size());

constexpr int LayoutIndexOf(BlockFormat format) {
  for (int i = 0; i < kNumPackedLayouts; ++i) {
    if (kPackedLayouts[static_cast<size_t>(i)].format == format) return i;
  }
  return -1;
}

}  // namespace tq
