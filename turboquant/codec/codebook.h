// SPDX-License-Identifier: Apache-2.0
// The integer codebooks of turbo4, turbo3 and turbo2: levels whose reconstruction is level * scale
// (scale: one f16 per head vector). Symmetric; made by tools/make_tables as the best integer
// rounding of Lloyd-Max levels for a Gaussian of deviation sigma. Codes of 2 and 3 bits count
// levels upwards; 4-bit codes are sign << 3 | magnitude index.
#pragma once

#include <array>
#include <cstdint>
#include <limits>

#include "turboquant/codec/codec.h"

namespace tq {

struct Codebook {
  uint32_t id;  // written into files; a reader without it refuses
  int bits;
  int magnitudes;                   // 2, 4 or 8
  std::array<int16_t, 8> doubled;   // 2 * |level|, ascending (4-bit levels are half-integers)
  std::array<float, 7> thresholds;  // midpoints between magnitudes; a tie takes the smaller one
  float sigma;

  // 2 * level of a code.
  constexpr int DoubledLevel(uint32_t code) const {
    if (bits == 4) return code >= 8 ? -doubled[code - 8] : doubled[code];
    const int index = static_cast<int>(code) - magnitudes;
    return index >= 0 ? doubled[static_cast<size_t>(index)]
                      : -doubled[static_cast<size_t>(-1 - index)];
  }
  constexpr uint32_t CodeOf(bool negative, int magnitude) const {
    if (bits == 4) return static_cast<uint32_t>(magnitude) | (negative ? 8u : 0u);
    return static_cast<uint32_t>(negative ? magnitudes - 1 - magnitude : magnitudes + magnitude);
  }
  // The bytes that codes select: signed levels for 2 and 3 bits; for 4 bits the magnitudes rounded
  // down, where a negative code takes the bitwise NOT and every level has a half added.
  constexpr std::array<int8_t, 8> SelectorTable() const {
    std::array<int8_t, 8> table = {};
    for (uint32_t code = 0; code < 8; ++code) {
      const uint32_t wrapped = bits == 2 ? code % 4 : code;
      table[code] = static_cast<int8_t>(bits == 4 ? doubled[code] / 2 : DoubledLevel(wrapped) / 2);
    }
    return table;
  }
};

namespace internal {
constexpr Codebook MakeCodebook(uint32_t id, int bits, std::array<int16_t, 8> doubled,
                                float sigma) {
  Codebook book = {id, bits, 1 << (bits - 1), doubled, {}, sigma};
  for (size_t i = 0; i < book.thresholds.size(); ++i) {
    book.thresholds[i] = static_cast<int>(i) + 1 < book.magnitudes
                             ? static_cast<float>(doubled[i] + doubled[i + 1]) / 4
                             : std::numeric_limits<float>::infinity();
  }
  return book;
}
}  // namespace internal

inline constexpr std::array kCodebooks = {
#include "turboquant/codec/tables/codebooks.inc"
};

constexpr const Codebook& CodebookOfBits(int bits) {
  return kCodebooks[static_cast<size_t>(bits - 2)];
}

// f32(sigma * sqrt(D)), the product and root in double: a head vector x is quantised as x * (this /
// ||x||).
float CodebookGain(int bits, int head_dim);

}  // namespace tq
