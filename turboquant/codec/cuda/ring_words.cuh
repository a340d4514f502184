// SPDX-License-Identifier: Apache-2.0
// What belongs to four neighbouring ring positions, 4 w + e, in the words that dot products of the
// device take: two of 16-bit halves, even e first, and one of bytes in the same order.
#pragma once

#include "turboquant/codec/cuda/lane_ops.cuh"
#include "turboquant/codec/cuda/ring_layout.h"

namespace tq::cuda {

struct HalfWords {
  uint32_t even;  // e = 0, 2
  uint32_t odd;   // e = 1, 3
};
TQ_DEVICE uint32_t HalfOf(const HalfWords& words, int e) {
  const uint32_t word = e % 2 == 0 ? words.even : words.odd;
  return e < 2 ? word & 0xffffu : word >> 16;
}
// Lower, and upper, halves of two words.
TQ_DEVICE uint32_t PackLower(uint32_t low, uint32_t high) { return Prmt(low, high, 0x5410u); }
TQ_DEVICE uint32_t PackUpper(uint32_t low, uint32_t high) { return Prmt(low, high, 0x7632u); }
// Bytes of e = 0 .. 3 as one word, and which bits of it are e's.
TQ_DEVICE uint32_t PackBytes(uint32_t e0, uint32_t e1, uint32_t e2, uint32_t e3) {
  return PackLower(Prmt(e0, e2, 0x0040u), Prmt(e1, e3, 0x0040u));
}
constexpr int ShiftOfByte(int e) { return e % 2 * 16 + e / 2 * 8; }
TQ_DEVICE int ByteOfWord(uint32_t word, int e) {
  return static_cast<int8_t>(word >> ShiftOfByte(e));
}

// Halves times factors / 2^15, half up (TrellisScaled): factors are given twice as large, so that
// what is wanted is the upper half of a product.
TQ_DEVICE uint32_t ScaleHalves(uint32_t halves, int low_twice, int high_twice) {
  const int low = static_cast<int16_t>(halves) * low_twice + (1 << 15);
  const int high = (static_cast<int>(halves) >> 16) * high_twice + (1 << 15);
  return PackUpper(static_cast<uint32_t>(low), static_cast<uint32_t>(high));
}

// sum += products of the halves and the bytes of the same e.
TQ_DEVICE int Dot(const HalfWords& halves, uint32_t bytes, int sum) {
  return Dp2aHigh(halves.odd, bytes, Dp2aLow(halves.even, bytes, sum));
}

// What elements of a word add to the sums of a token that has them: of kParts parts, one: e and
// e + 2 of two, each by itself of four.
template <int kParts>
TQ_DEVICE void AddPart(const HalfWords& targets, uint32_t levels, int part, int& product,
                       int& square) {
  if constexpr (kParts == 1) {
    product = Dot(targets, levels, product);
    square = Dp4a(levels, levels, square);
  } else {
    const uint32_t mask = kParts == 2 ? 0xffffu << (16 * part) : 0xffu << ShiftOfByte(part);
    const uint32_t bytes = levels & mask;
    product = part % 2 == 0 ? Dp2aLow(targets.even, bytes, product)
                            : Dp2aHigh(targets.odd, bytes, product);
    square = Dp4a(bytes, bytes, square);
  }
}

}  // namespace tq::cuda
