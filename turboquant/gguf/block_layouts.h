// SPDX-License-Identifier: Apache-2.0
// Bytes of one block of every quantised GGUF format, in file order (little-endian), and how codes
// and scales lie in them. Blocks of a row follow each other without padding. d, dmin, m are f16
// bits; sizes are even, so a row that starts at an even address keeps every field aligned. Copy a
// block out of a mapping with std::memcpy.
#pragma once

#include <array>
#include <cstdint>

#include "turboquant/base/half.h"

namespace tq {

// ---- 32 values: value i < 16 is the low nibble of codes[i], value i >= 16 the high nibble of
// codes[i - 16].

struct BlockQ4_0 {  // x = d * (q - 8)
  Half d;
  uint8_t codes[16];
};

struct BlockQ4_1 {  // x = d * q + m
  Half d, m;
  uint8_t codes[16];
};

struct BlockQ5_0 {  // x = d * (q - 16); bit i of `high` (little-endian 32 bits) is bit 4 of q[i]
  Half d;
  uint8_t high[4];
  uint8_t codes[16];
};

struct BlockQ5_1 {  // x = d * q + m; bits as in Q5_0
  Half d, m;
  uint8_t high[4];
  uint8_t codes[16];
};

struct BlockQ8_0 {  // x = d * q; q[i] = codes[i]
  Half d;
  int8_t codes[32];
};

struct BlockIQ4_NL {  // x = d * kIq4Values[q]
  Half d;
  uint8_t codes[16];
};

// ---- 256 values. Below i is the value's index, l = i % 32, h = i / 128, j = (i % 128) / 32.

struct BlockQ2_K {  // x = d * (s & 15) * q - dmin * (s >> 4), s = scales[i / 16]; q = codes[32 h +
                    // l] >> 2 j & 3
  uint8_t scales[16];
  uint8_t codes[64];
  Half d, dmin;
};

struct BlockQ3_K {    // x = d * Q3KScale(scales, i / 16) * (q - 4)
  uint8_t high[32];   // bit 2 of q: high[l] >> (4 h + j) & 1
  uint8_t codes[64];  // bits 0, 1 of q: codes[32 h + l] >> 2 j & 3
  uint8_t scales[12];
  Half d;
};

struct BlockQ4_K {  // x = d * s.scale * q - dmin * s.min, s = KScaleMin(scales, i / 32)
  Half d, dmin;
  uint8_t scales[12];
  uint8_t codes[128];  // q = codes[32 (i / 64) + l] >> 4 (i / 32 % 2) & 15
};

struct BlockQ5_K {  // as Q4_K; bit 4 of q: high[l] >> (i / 32) & 1
  Half d, dmin;
  uint8_t scales[12];
  uint8_t high[32];
  uint8_t codes[128];
};

struct BlockQ6_K {     // x = d * scales[i / 16] * (q - 32)
  uint8_t codes[128];  // bits 0..3 of q: codes[64 h + 32 (j % 2) + l] >> 4 (j / 2) & 15
  uint8_t high[64];    // bits 4, 5 of q: high[32 h + l] >> 2 j & 3
  int8_t scales[16];
  Half d;
};

struct BlockIQ4_XS {  // x = d * Iq4XsScale(block, i / 32) * kIq4Values[q]
  Half d;
  uint16_t scales_high;
  uint8_t scales_low[4];
  uint8_t codes[128];  // per 32 values 16 bytes, nibbles as in the 32-value formats
};

static_assert(sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20 && sizeof(BlockQ5_0) == 22);
static_assert(sizeof(BlockQ5_1) == 24 && sizeof(BlockQ8_0) == 34 && sizeof(BlockIQ4_NL) == 18);
static_assert(sizeof(BlockQ2_K) == 84 && sizeof(BlockQ3_K) == 110 && sizeof(BlockQ4_K) == 144);
static_assert(sizeof(BlockQ5_K) == 176 && sizeof(BlockQ6_K) == 210 && sizeof(BlockIQ4_XS) == 136);

// The 16 levels of IQ4_NL and IQ4_XS.
inline constexpr std::array<int8_t, 16> kIq4Values = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                      1,    13,   25,  38,  53,  69,  89,  113};

struct ScaleMin {
  uint8_t scale, min;  // 0..63 each
};

// Scale and min of sub-block `sub` (0..7) of Q4_K and Q5_K: eight pairs of 6 bits in 12 bytes.
inline ScaleMin KScaleMin(const uint8_t scales[12], int sub) {
  if (sub < 4) {
    return {static_cast<uint8_t>(scales[sub] & 63), static_cast<uint8_t>(scales[sub + 4] & 63)};
  }
  return {static_cast<uint8_t>((scales[sub + 4] & 15) | (scales[sub - 4] >> 6 << 4)),
          static_cast<uint8_t>((scales[sub + 4] >> 4) | (scales[sub] >> 6 << 4))};
}

// Scale of sub-block `sub` (0..15) of Q3_K, -32..31: sixteen times 6 bits in 12 bytes.
inline int Q3KScale(const uint8_t scales[12], int sub) {
  const int low = sub < 8 ? scales[sub] & 15 : scales[sub - 8] >> 4;
  const int high = scales[8 + sub % 4] >> (2 * (sub / 4)) & 3;
  return (low | high << 4) - 32;
}

// Scale of sub-block `sub` (0..7) of IQ4_XS, -32..31.
inline int Iq4XsScale(const BlockIQ4_XS& block, int sub) {
  const int low = block.scales_low[sub / 2] >> (4 * (sub % 2)) & 15;
  const int high = block.scales_high >> (2 * sub) & 3;
  return (low | high << 4) - 32;
}

}  // namespace tq
