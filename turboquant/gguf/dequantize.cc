// SPDX-License-Identifier: Apache-2.0
#include "turboquant/gguf/dequantize.h"

#include <cstring>

#include "turboquant/base/error.h"
#include "turboquant/base/half.h"
#include "turboquant/gguf/block_layouts.h"

namespace tq {
namespace {

template <typename T>
T Load(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

// Nibble i of 32 values in 16 bytes: low halves first.
int Nibble(const uint8_t codes[16], int i) { return codes[i % 16] >> (4 * (i / 16)) & 15; }

int HighBit(const uint8_t high[4], int i) { return high[i / 8] >> (i % 8) & 1; }

void Decode(const float& block, float* out) { *out = block; }

struct F16 {
  Half bits;
};
void Decode(const F16& block, float* out) { *out = HalfToFloat(block.bits); }

struct BF16 {
  BFloat16 bits;
};
void Decode(const BF16& block, float* out) { *out = BFloat16ToFloat(block.bits); }

void Decode(const BlockQ4_0& block, float* out) {
  const float d = HalfToFloat(block.d);
  for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(Nibble(block.codes, i) - 8);
}

void Decode(const BlockQ4_1& block, float* out) {
  const float d = HalfToFloat(block.d), m = HalfToFloat(block.m);
  for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(Nibble(block.codes, i)) + m;
}

void Decode(const BlockQ5_0& block, float* out) {
  const float d = HalfToFloat(block.d);
  for (int i = 0; i < 32; ++i) {
    const int q = Nibble(block.codes, i) | HighBit(block.high, i) << 4;
    out[i] = d * static_cast<float>(q - 16);
  }
}

void Decode(const BlockQ5_1& block, float* out) {
  const float d = HalfToFloat(block.d), m = HalfToFloat(block.m);
  for (int i = 0; i < 32; ++i) {
    const int q = Nibble(block.codes, i) | HighBit(block.high, i) << 4;
    out[i] = d * static_cast<float>(q) + m;
  }
}

void Decode(const BlockQ8_0& block, float* out) {
  const float d = HalfToFloat(block.d);
  for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(block.codes[i]);
}

void Decode(const BlockIQ4_NL& block, float* out) {
  const float d = HalfToFloat(block.d);
  for (int i = 0; i < 32; ++i) {
    out[i] = d * static_cast<float>(kIq4Values[static_cast<size_t>(Nibble(block.codes, i))]);
  }
}

void Decode(const BlockQ2_K& block, float* out) {
  const float d = HalfToFloat(block.d), dmin = HalfToFloat(block.dmin);
  for (int i = 0; i < 256; ++i) {
    const int scale = block.scales[i / 16];
    const int q = block.codes[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
    out[i] = d * static_cast<float>((scale & 15) * q) - dmin * static_cast<float>(scale >> 4);
  }
}

void Decode(const BlockQ3_K& block, float* out) {
  const float d = HalfToFloat(block.d);
  for (int i = 0; i < 256; ++i) {
    const int low = block.codes[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
    const int high = block.high[i % 32] >> (i / 32) & 1;
    out[i] = d * static_cast<float>(Q3KScale(block.scales, i / 16) * ((low | high << 2) - 4));
  }
}

void Decode(const BlockQ4_K& block, float* out) {
  const float d = HalfToFloat(block.d), dmin = HalfToFloat(block.dmin);
  for (int i = 0; i < 256; ++i) {
    const auto [scale, min] = KScaleMin(block.scales, i / 32);
    const int q = block.codes[i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15;
    out[i] = d * static_cast<float>(scale * q) - dmin * static_cast<float>(min);
  }
}

void Decode(const BlockQ5_K& block, float* out) {
  const float d = HalfToFloat(block.d), dmin = HalfToFloat(block.dmin);
  for (int i = 0; i < 256; ++i) {
    const auto [scale, min] = KScaleMin(block.scales, i / 32);
    const int low = block.codes[i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15;
    const int high = block.high[i % 32] >> (i / 32) & 1;
    out[i] = d * static_cast<float>(scale * (low | high << 4)) - dmin * static_cast<float>(min);
  }
}

void Decode(const BlockQ6_K& block, float* out) {
  const float d = HalfToFloat(block.d);
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128, quarter = i % 128 / 32, l = i % 32;
    const int low = block.codes[64 * half + quarter % 2 * 32 + l] >> (quarter / 2 * 4) & 15;
    const int high = block.high[32 * half + l] >> (2 * quarter) & 3;
    out[i] = d * static_cast<float>(block.scales[i / 16] * ((low | high << 4) - 32));
  }
}

void Decode(const BlockIQ4_XS& block, float* out) {
  const float d = HalfToFloat(block.d);
  for (int i = 0; i < 256; ++i) {
    const int sub = i / 32;
    const auto level = static_cast<size_t>(Nibble(block.codes + 16 * sub, i % 32));
    out[i] = d * static_cast<float>(Iq4XsScale(block, sub) * kIq4Values[level]);
  }
}

template <typename T>
void DecodeAll(const BlockFormatInfo& info, const std::byte* blocks, int64_t n, float* out) {
  TQ_CHECK(sizeof(T) == info.bytes_per_block && n % info.values_per_block == 0);
  for (int64_t i = 0; i < n; i += info.values_per_block, blocks += sizeof(T)) {
    Decode(Load<T>(blocks), out + i);
  }
}

}  // namespace

void DequantizeRow(BlockFormat format, const std::byte* blocks, int64_t n, float* out) {
  const BlockFormatInfo& info = InfoOf(format);
  switch (format) {
    case BlockFormat::kF32:
      return DecodeAll<float>(info, blocks, n, out);
    case BlockFormat::kF16:
      return DecodeAll<F16>(info, blocks, n, out);
    case BlockFormat::kBF16:
      return DecodeAll<BF16>(info, blocks, n, out);
    case BlockFormat::kQ4_0:
      return DecodeAll<BlockQ4_0>(info, blocks, n, out);
    case BlockFormat::kQ4_1:
      return DecodeAll<BlockQ4_1>(info, blocks, n, out);
    case BlockFormat::kQ5_0:
      return DecodeAll<BlockQ5_0>(info, blocks, n, out);
    case BlockFormat::kQ5_1:
      return DecodeAll<BlockQ5_1>(info, blocks, n, out);
    case BlockFormat::kQ8_0:
      return DecodeAll<BlockQ8_0>(info, blocks, n, out);
    case BlockFormat::kQ2_K:
      return DecodeAll<BlockQ2_K>(info, blocks, n, out);
    case BlockFormat::kQ3_K:
      return DecodeAll<BlockQ3_K>(info, blocks, n, out);
    case BlockFormat::kQ4_K:
      return DecodeAll<BlockQ4_K>(info, blocks, n, out);
    case BlockFormat::kQ5_K:
      return DecodeAll<BlockQ5_K>(info, blocks, n, out);
    case BlockFormat::kQ6_K:
      return DecodeAll<BlockQ6_K>(info, blocks, n, out);
    case BlockFormat::kIQ4_NL:
      return DecodeAll<BlockIQ4_NL>(info, blocks, n, out);
    case BlockFormat::kIQ4_XS:
      return DecodeAll<BlockIQ4_XS>(info, blocks, n, out);
  }
}

}  // namespace tq
