// SPDX-License-Identifier: Apache-2.0
// The arithmetic that the format fixes (codec/cpu/scalar_math.h), on a device, and a page's bytes.
#pragma once

#include "turboquant/codec/codebook.h"
#include "turboquant/codec/cpu/tile_side.h"
#include "turboquant/codec/cuda/float4_ops.cuh"
#include "turboquant/codec/unit_bits.h"

namespace tq::cuda {

TQ_DEVICE float Clamp(float x, float limit) { return x > limit ? limit : x < -limit ? -limit : x; }
TQ_DEVICE float Sanitize(float x) { return x == x ? Clamp(x, 0x1.fffffep127f) : 0.0f; }
TQ_DEVICE float4 Sanitize(const float4& v) {
  return {Sanitize(v.x), Sanitize(v.y), Sanitize(v.z), Sanitize(v.w)};
}
TQ_DEVICE uint16_t FiniteHalf(float x) { return ToHalf(Clamp(x, 65504.0f)); }
// Clamp in two instructions; of NaN the limit.
TQ_DEVICE float Limited(float x, float limit) { return Max(-Max(-x, -limit), -limit); }
// FiniteHalf of two numbers; of NaN the largest half.
TQ_DEVICE uint32_t FiniteHalves(float low, float high) {
  return ToHalves(Limited(low, 65504.0f), Limited(high, 65504.0f));
}

TQ_DEVICE uint16_t LoadHalf(const std::byte* p) { return *reinterpret_cast<const uint16_t*>(p); }
TQ_DEVICE void StoreHalf(std::byte* p, uint16_t h) { *reinterpret_cast<uint16_t*>(p) = h; }
TQ_DEVICE float ReadHalf(const std::byte* p) { return HalfLow(LoadHalf(p)); }

// absmax / 127 as f16, of a finite number. The quotient is the nearest float, by its remainder
// (Markstein 1990; true for every mantissa): a division has branches, which keep tokens from being
// encoded side by side.
TQ_DEVICE uint16_t ScaleOf8(float absmax) {
  constexpr float kInverse = 1.0f / 127.0f;
  const float quotient = MulRn(absmax, kInverse);
  return FiniteHalf(FusedMulAdd(FusedMulAdd(-quotient, 127.0f, absmax), kInverse, quotient));
}

// Integers of up to 22 bits to floats and floats to the nearest of them (ties to even) by an
// addition: conversions take four times as long.
inline constexpr float kRoundingFloat = 12582912.0f;  // 1.5 * 2^23
TQ_DEVICE float SmallToFloat(int x) {
  return SubRn(BitsToFloat(FloatBits(kRoundingFloat) + static_cast<uint32_t>(x)), kRoundingFloat);
}

// The low bytes of four words.
TQ_DEVICE uint32_t LowBytes(uint32_t w0, uint32_t w1, uint32_t w2, uint32_t w3) {
  return Prmt(Prmt(w0, w1, 0x0040), Prmt(w2, w3, 0x0040), 0x5410);
}

// Codes of values under one scale, an f16 number: x / scale to nearest even, within +-127. The
// quotient is the nearest float, as a division makes it but without its branches, which would keep
// tokens from being encoded side by side: those are for numbers whose quotients are 0 or limited.
class Coder8 {
 public:
  TQ_DEVICE explicit Coder8(float scale) : scale_(scale) {
    const float inverse = scale == 0.0f ? 0.0f : FastDivide(1.0f, scale);
    inverse_ = FusedMulAdd(inverse, FusedMulAdd(-inverse, scale, 1.0f), inverse);
  }
  // Of four finite values, one byte each.
  TQ_DEVICE uint32_t Codes(const float4& x) const {
    return LowBytes(Code(x.x), Code(x.y), Code(x.z), Code(x.w));
  }

 private:
  // In the low byte.
  TQ_DEVICE uint32_t Code(float x) const {
    float quotient = MulRn(x, inverse_);
#pragma unroll
    for (int i = 0; i < 2; ++i)
      quotient = FusedMulAdd(FusedMulAdd(-quotient, scale_, x), inverse_, quotient);
    return FloatBits(AddRn(Limited(quotient, 127.0f), kRoundingFloat));
  }

  float scale_;
  float inverse_;
};

TQ_DEVICE CodePlace PlaceOf(const TileSide& s, int token, int dim) {
  return s.side == Side::kKey ? PlaceOfKey(s.tile, token, dim) : PlaceOfValue(s.tile, token, dim);
}

// Offset of an 8-bit code within its head block.
TQ_DEVICE uint32_t ByteOf8(const TileSide& s, int token, int dim) {
  const CodePlace place = PlaceOf(s, token, dim);
  return s.CodesOffset(place.tile) +
         WordOffset(s.tile, 8, place.lane, place.unit, place.index / 4) +
         static_cast<uint32_t>(place.index % 4);
}

// An 8-bit token's value without the reference.
TQ_DEVICE float Value8(const TileSide& s, const std::byte* head, int token, int dim, float scale) {
  const int code = static_cast<int8_t>(head[ByteOf8(s, token, dim)]);
  return MulRn(SmallToFloat(code), scale);
}

// Mean of the 128 decoded keys of an 8-bit page at one dim, added in token order.
TQ_DEVICE float MeanKey8(const TileSide& s, const std::byte* head, uint32_t reference_offset,
                         int dim) {
  const float r = ReadHalf(head + reference_offset + 2 * dim);
  float sum = 0;
#pragma unroll 16  // that many loads in flight
  for (int token = 0; token < kPageTokens; ++token) {
    const float scale = ReadHalf(head + s.ScaleOffset(token));
    sum = AddRn(sum, AddRn(Value8(s, head, token, dim, scale), r));
  }
  return MulRn(sum, 1.0f / kPageTokens);
}

TQ_DEVICE float WarpMax(float x) {
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) x = Max(x, ShuffleXor(x, mask));
  return x;
}

// A scale, and zero into the slot of a side that lies in rows.
TQ_DEVICE void WriteScale(const TileSide& s, bool other_in_rows, std::byte* head, int token,
                          uint16_t scale) {
  StoreHalf(head + s.ScaleOffset(token), scale);
  if (other_in_rows) StoreHalf(head + s.OtherScaleOffset(token), 0);
}

// Zeros from the reference vector up to the tiles, by all threads that say which one they are.
TQ_DEVICE void WriteReferencePadding(const TileSide& s, std::byte* head, uint32_t reference_offset,
                                     uint32_t tiles_offset, int thread = ThreadId(),
                                     int threads = Threads()) {
  const uint32_t begin = reference_offset + static_cast<uint32_t>(s.tile.head_dim) * 2;
  for (uint32_t i = begin + static_cast<uint32_t>(thread) * 2; i < tiles_offset;
       i += static_cast<uint32_t>(threads) * 2) {
    StoreHalf(head + i, 0);
  }
}

}  // namespace tq::cuda
