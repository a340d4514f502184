// SPDX-License-Identifier: Apache-2.0
// The bit order inside a unit: 32 codes in W = bits little-endian words. This is the definition,
// one code at a time; fast kernels move whole units and are tested against it. Words must be zero
// before codes are set.
//
// Codes are nibbles of byte-permute selectors (PRMT): a word masked with 0x77777777 or 0x33333333
// selects levels directly.
#pragma once

#include <cstdint>

namespace tq {

// Bit within its word of the sign of code k (0..7) of a 4-bit word: where one more PRMT turns it
// into a byte mask.
constexpr int SignBit4(int k) { return k < 4 ? 8 * k + 7 : 8 * (k - 4) + 3; }

constexpr void SetUnitCode(int bits, uint32_t* words, int n, uint32_t code) {
  const int j = n / 8;
  const int k = n % 8;
  switch (bits) {
    case 2:  // word n / 16; its low bit pairs hold the first eight codes, its high pairs the next
      words[n / 16] |= code << (4 * k + 2 * (j % 2));
      break;
    case 3:  // codes 24..31 are spread over the spare top bits of the three words' nibbles
      if (j < 3) {
        words[j] |= code << (4 * k);
      } else {
        for (int b = 0; b < 3; ++b) words[b] |= ((code >> b) & 1u) << (4 * k + 3);
      }
      break;
    case 4:  // low three bits: magnitude in nibble k; sign apart
      words[j] |= (code & 7u) << (4 * k) | (code >> 3) << SignBit4(k);
      break;
    default:  // 8: byte n
      words[n / 4] |= (code & 255u) << (8 * (n % 4));
  }
}

constexpr uint32_t GetUnitCode(int bits, const uint32_t* words, int n) {
  const int j = n / 8;
  const int k = n % 8;
  switch (bits) {
    case 2:
      return words[n / 16] >> (4 * k + 2 * (j % 2)) & 3u;
    case 3: {
      if (j < 3) return words[j] >> (4 * k) & 7u;
      uint32_t code = 0;
      for (int b = 0; b < 3; ++b) code |= (words[b] >> (4 * k + 3) & 1u) << b;
      return code;
    }
    case 4:
      return (words[j] >> (4 * k) & 7u) | (words[j] >> SignBit4(k) & 1u) << 3;
    default:
      return words[n / 4] >> (8 * (n % 4)) & 255u;
  }
}

}  // namespace tq
