// SPDX-License-Identifier: Apache-2.0
#include "turboquant/ops/packed_panels.h"

#include <cstring>

#include "turboquant/base/half.h"
#include "turboquant/gguf/block_layouts.h"
#include "turboquant/ops/weight_memory.h"

namespace tq {
namespace {

uint32_t Load32(const uint8_t* p) {
  uint32_t v;
  std::memcpy(&v, p, 4);
  return v;
}

void Store32(uint8_t* p, uint32_t v) { std::memcpy(p, &v, 4); }

float LoadHalf(const uint8_t* p) {
  Half h;
  std::memcpy(&h, p, 2);
  return HalfToFloat(h);
}

// Columns 16 * part .. 16 * part + 15 of a group: value = d * (fine * code) + offset.
struct GroupScale {
  float d;
  int fine;
  float offset;
};

GroupScale LoadScale(const PackedLayout& layout, const uint8_t* record, int64_t in_super, int part,
                     int row) {
  const float d = LoadHalf(record + 2 * row);
  switch (layout.scales) {
    case ScaleKind::kHalfMin:
      return {d, 1, LoadHalf(record + 32 + 2 * row)};
    case ScaleKind::kSuper32:
      return {d, static_cast<int8_t>(record[32 + 16 * in_super + row]), 0.0f};
    case ScaleKind::kSuper16:
      return {d, static_cast<int8_t>(record[32 + 16 * (2 * in_super + part) + row]), 0.0f};
    case ScaleKind::kSuperMin32: {
      const uint8_t* fine = record + 64 + 32 * in_super + row;
      return {d, fine[0], -(LoadHalf(record + 32 + 2 * row) * static_cast<float>(fine[16]))};
    }
    case ScaleKind::kSuperMin16: {
      const int fine = record[64 + 16 * (2 * in_super + part) + row];
      return {d, fine & 15, -(LoadHalf(record + 32 + 2 * row) * static_cast<float>(fine >> 4))};
    }
    case ScaleKind::kHalf:
    case ScaleKind::kNone:
      break;
  }
  return {d, 1, 0.0f};
}

}  // namespace

PackedPanels::PackedPanels(int layout_index, int64_t rows, int64_t cols)
    : layout_index_(layout_index),
      rows_(rows),
      cols_(cols),
      panel_bytes_(kPackedLayouts[static_cast<size_t>(layout_index)].panel_bytes(cols)),
      data_(AllocateWeightMemory(bytes())) {}

void StoreGroupCodes(const PackedLayout& layout, const uint8_t codes[kGroupColumns], int row,
                     uint8_t* group) {
  uint32_t word[8];
  for (int i = 0; i < 8; ++i) word[i] = Load32(codes + 4 * i);
  uint8_t* out = group + 4 * row;
  if (layout.bits == 8) {
    for (int i = 0; i < 8; ++i) Store32(out + 64 * i, word[i]);
    return;
  }
  int shift = 0;  // bits of a code stored so far
  if (layout.bits >= 4) {
    for (int p = 0; p < 4; ++p, out += 64) {
      Store32(out, (word[p] & 0x0f0f0f0fu) | (word[p + 4] & 0x0f0f0f0fu) << 4);
    }
    shift = 4;
  }
  if (layout.bits - shift >= 2) {
    for (int q = 0; q < 2; ++q, out += 64) {
      uint32_t pairs = 0;
      for (int s = 0; s < 4; ++s) pairs |= ((word[4 * q + s] >> shift) & 0x03030303u) << (2 * s);
      Store32(out, pairs);
    }
    shift += 2;
  }
  if (layout.bits - shift == 1) {
    uint32_t single = 0;
    for (int s = 0; s < 8; ++s) single |= ((word[s] >> shift) & 0x01010101u) << s;
    Store32(out, single);
  }
}

void LoadGroupCodes(const PackedLayout& layout, const uint8_t* group, int row,
                    uint8_t codes[kGroupColumns]) {
  const uint8_t* in = group + 4 * row;
  if (layout.bits == 8) {
    for (int i = 0; i < 8; ++i) std::memcpy(codes + 4 * i, in + 64 * i, 4);
    return;
  }
  uint32_t word[8] = {};
  int shift = 0;
  if (layout.bits >= 4) {
    for (int p = 0; p < 4; ++p, in += 64) {
      word[p] = Load32(in) & 0x0f0f0f0fu;
      word[p + 4] = Load32(in) >> 4 & 0x0f0f0f0fu;
    }
    shift = 4;
  }
  if (layout.bits - shift >= 2) {
    for (int q = 0; q < 2; ++q, in += 64) {
      for (int s = 0; s < 4; ++s) word[4 * q + s] |= (Load32(in) >> (2 * s) & 0x03030303u) << shift;
    }
    shift += 2;
  }
  if (layout.bits - shift == 1) {
    for (int s = 0; s < 8; ++s) word[s] |= (Load32(in) >> s & 0x01010101u) << shift;
  }
  for (int i = 0; i < 8; ++i) Store32(codes + 4 * i, word[i]);
}

void PackedPanels::DecodeRow(int64_t r, float* out) const {
  const uint8_t* base = panel(r / kPanelRows);
  const int row = static_cast<int>(r % kPanelRows);
  const PackedLayout& l = layout();
  if (!l.quantised()) {
    for (int64_t k = 0; k < cols_; ++k) {
      const int64_t at = k * kPanelRows + row;
      if (l.format == BlockFormat::kF32) {
        std::memcpy(out + k, base + 4 * at, 4);
      } else {
        uint16_t bits;
        std::memcpy(&bits, base + 2 * at, 2);
        out[k] = l.format == BlockFormat::kF16 ? HalfToFloat(bits) : BFloat16ToFloat(bits);
      }
    }
    return;
  }
  const int64_t groups_per_record = l.record_columns() / kGroupColumns;
  for (int64_t g = 0; g < cols_ / kGroupColumns; ++g) {
    uint8_t codes[kGroupColumns];
    const uint8_t* record = base + g / groups_per_record * l.record_bytes();
    const int64_t in_record = g % groups_per_record;
    LoadGroupCodes(l, record + l.scale_bytes() + in_record * l.group_bytes(), row, codes);
    for (int part = 0; part < 2; ++part) {
      const auto [d, fine, offset] = LoadScale(l, record, in_record, part, row);
      for (int i = 16 * part; i < 16 * part + 16; ++i) {
        const int code = l.table ? kIq4Values[codes[i]] + 128 : codes[i];
        const float value = d * static_cast<float>(fine * (code - l.zero));
        out[g * kGroupColumns + i] = HasMin(l.scales) ? value + offset : value;
      }
    }
  }
}

}  // namespace tq
