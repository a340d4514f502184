// SPDX-License-Identifier: Apache-2.0
// From GGUF blocks to panels: takes each block apart into plain codes and scales and lays these
// into a panel's row.
#include <cstring>

#include "turboquant/gguf/block_layouts.h"
#include "turboquant/ops/packed_panels.h"

namespace tq {
namespace {

// Where the scales of the current block go: the record that holds this block.
struct ScaleSink {
  uint8_t* record;
  int row;

  void Half16(int slot, Half h) const { std::memcpy(record + 32 * slot + 2 * row, &h, 2); }
  // Byte `index` after `halves` f16 fields.
  void Byte(int halves, int index, int value) const {
    record[32 * halves + 16 * index + row] = static_cast<uint8_t>(value);
  }
};

void Nibbles(const uint8_t in[16], uint8_t* codes) {
  for (int i = 0; i < 16; ++i) {
    codes[i] = in[i] & 15;
    codes[i + 16] = in[i] >> 4;
  }
}

void FifthBits(const uint8_t high[4], uint8_t* codes) {
  for (int i = 0; i < 32; ++i)
    codes[i] = static_cast<uint8_t>(codes[i] | (high[i / 8] >> (i % 8) & 1) << 4);
}

void Take(const BlockQ4_0& b, uint8_t* codes, const ScaleSink& sink) {
  Nibbles(b.codes, codes);
  sink.Half16(0, b.d);
}

void Take(const BlockQ4_1& b, uint8_t* codes, const ScaleSink& sink) {
  Nibbles(b.codes, codes);
  sink.Half16(0, b.d);
  sink.Half16(1, b.m);
}

void Take(const BlockQ5_0& b, uint8_t* codes, const ScaleSink& sink) {
  Nibbles(b.codes, codes);
  FifthBits(b.high, codes);
  sink.Half16(0, b.d);
}

void Take(const BlockQ5_1& b, uint8_t* codes, const ScaleSink& sink) {
  Nibbles(b.codes, codes);
  FifthBits(b.high, codes);
  sink.Half16(0, b.d);
  sink.Half16(1, b.m);
}

void Take(const BlockQ8_0& b, uint8_t* codes, const ScaleSink& sink) {
  for (int i = 0; i < 32; ++i) codes[i] = static_cast<uint8_t>(b.codes[i] ^ 0x80);
  sink.Half16(0, b.d);
}

void Take(const BlockIQ4_NL& b, uint8_t* codes, const ScaleSink& sink) {
  Nibbles(b.codes, codes);
  sink.Half16(0, b.d);
}

// Bit pairs of Q2_K and Q3_K: value 128 h + 32 j + l is codes[32 h + l] >> 2 j & 3.
void BitPairs(const uint8_t in[64], uint8_t* codes) {
  for (int h = 0; h < 2; ++h) {
    for (int j = 0; j < 4; ++j) {
      for (int l = 0; l < 32; ++l) codes[128 * h + 32 * j + l] = in[32 * h + l] >> (2 * j) & 3;
    }
  }
}

void Take(const BlockQ2_K& b, uint8_t* codes, const ScaleSink& sink) {
  BitPairs(b.codes, codes);
  sink.Half16(0, b.d);
  sink.Half16(1, b.dmin);
  for (int i = 0; i < 16; ++i) sink.Byte(2, i, b.scales[i]);
}

void Take(const BlockQ3_K& b, uint8_t* codes, const ScaleSink& sink) {
  BitPairs(b.codes, codes);
  for (int g = 0; g < 8; ++g) {
    for (int l = 0; l < 32; ++l)
      codes[32 * g + l] = static_cast<uint8_t>(codes[32 * g + l] | (b.high[l] >> g & 1) << 2);
  }
  sink.Half16(0, b.d);
  for (int i = 0; i < 16; ++i) sink.Byte(1, i, Q3KScale(b.scales, i));
}

void NibblesOf64(const uint8_t in[128], uint8_t* codes) {
  for (int j = 0; j < 4; ++j) {
    for (int l = 0; l < 32; ++l) {
      codes[64 * j + l] = in[32 * j + l] & 15;
      codes[64 * j + 32 + l] = in[32 * j + l] >> 4;
    }
  }
}

template <typename Block>
void KScales(const Block& b, const ScaleSink& sink) {
  sink.Half16(0, b.d);
  sink.Half16(1, b.dmin);
  for (int g = 0; g < 8; ++g) {
    const ScaleMin s = KScaleMin(b.scales, g);
    sink.Byte(2, 2 * g, s.scale);
    sink.Byte(2, 2 * g + 1, s.min);
  }
}

void Take(const BlockQ4_K& b, uint8_t* codes, const ScaleSink& sink) {
  NibblesOf64(b.codes, codes);
  KScales(b, sink);
}

void Take(const BlockQ5_K& b, uint8_t* codes, const ScaleSink& sink) {
  NibblesOf64(b.codes, codes);
  for (int g = 0; g < 8; ++g) {
    for (int l = 0; l < 32; ++l)
      codes[32 * g + l] = static_cast<uint8_t>(codes[32 * g + l] | (b.high[l] >> g & 1) << 4);
  }
  KScales(b, sink);
}

void Take(const BlockQ6_K& b, uint8_t* codes, const ScaleSink& sink) {
  for (int h = 0; h < 2; ++h) {
    for (int j = 0; j < 4; ++j) {
      for (int l = 0; l < 32; ++l) {
        const int low = b.codes[64 * h + 32 * (j % 2) + l] >> (4 * (j / 2)) & 15;
        codes[128 * h + 32 * j + l] =
            static_cast<uint8_t>(low | (b.high[32 * h + l] >> (2 * j) & 3) << 4);
      }
    }
  }
  sink.Half16(0, b.d);
  for (int i = 0; i < 16; ++i) sink.Byte(1, i, b.scales[i]);
}

void Take(const BlockIQ4_XS& b, uint8_t* codes, const ScaleSink& sink) {
  sink.Half16(0, b.d);
  for (int g = 0; g < 8; ++g) {
    Nibbles(b.codes + 16 * g, codes + 32 * g);
    sink.Byte(1, g, Iq4XsScale(b, g));
  }
}

template <typename Block, int kValues>
void PackBlocks(const PackedLayout& layout, const std::byte* blocks, int64_t cols, int row,
                uint8_t* panel) {
  for (int64_t i = 0; i < cols / kValues; ++i) {
    Block block;
    std::memcpy(&block, blocks + i * static_cast<int64_t>(sizeof(Block)), sizeof(Block));
    uint8_t codes[kValues];
    uint8_t* record = panel + i * layout.record_bytes();
    Take(block, codes, ScaleSink{record, row});
    for (int g = 0; g < kValues / kGroupColumns; ++g) {
      StoreGroupCodes(layout, codes + g * kGroupColumns, row,
                      record + layout.scale_bytes() + g * layout.group_bytes());
    }
  }
}

template <typename T>
void PackFloats(const std::byte* values, int64_t cols, int row, uint8_t* panel) {
  for (int64_t k = 0; k < cols; ++k) {
    std::memcpy(panel + (k * kPanelRows + row) * static_cast<int64_t>(sizeof(T)),
                values + k * static_cast<int64_t>(sizeof(T)), sizeof(T));
  }
}

}  // namespace

void PackRow(const PackedLayout& layout, const std::byte* blocks, int64_t cols, int row,
             uint8_t* panel) {
  switch (layout.format) {
    case BlockFormat::kQ4_0:
      return PackBlocks<BlockQ4_0, 32>(layout, blocks, cols, row, panel);
    case BlockFormat::kQ4_1:
      return PackBlocks<BlockQ4_1, 32>(layout, blocks, cols, row, panel);
    case BlockFormat::kQ5_0:
      return PackBlocks<BlockQ5_0, 32>(layout, blocks, cols, row, panel);
    case BlockFormat::kQ5_1:
      return PackBlocks<BlockQ5_1, 32>(layout, blocks, cols, row, panel);
    case BlockFormat::kQ8_0:
      return PackBlocks<BlockQ8_0, 32>(layout, blocks, cols, row, panel);
    case BlockFormat::kIQ4_NL:
      return PackBlocks<BlockIQ4_NL, 32>(layout, blocks, cols, row, panel);
    case BlockFormat::kQ2_K:
      return PackBlocks<BlockQ2_K, 256>(layout, blocks, cols, row, panel);
    case BlockFormat::kQ3_K:
      return PackBlocks<BlockQ3_K, 256>(layout, blocks, cols, row, panel);
    case BlockFormat::kQ4_K:
      return PackBlocks<BlockQ4_K, 256>(layout, blocks, cols, row, panel);
    case BlockFormat::kQ5_K:
      return PackBlocks<BlockQ5_K, 256>(layout, blocks, cols, row, panel);
    case BlockFormat::kQ6_K:
      return PackBlocks<BlockQ6_K, 256>(layout, blocks, cols, row, panel);
    case BlockFormat::kIQ4_XS:
      return PackBlocks<BlockIQ4_XS, 256>(layout, blocks, cols, row, panel);
    case BlockFormat::kF16:
    case BlockFormat::kBF16:
      return PackFloats<uint16_t>(blocks, cols, row, panel);
    case BlockFormat::kF32:
      return PackFloats<uint32_t>(blocks, cols, row, panel);
  }
}

}  // namespace tq
