// SPDX-License-Identifier: Apache-2.0
#include "turboquant/gguf/quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "turboquant/base/error.h"
#include "turboquant/base/half.h"
#include "turboquant/gguf/block_layouts.h"

namespace tq {
namespace {

// Codes are chosen against the scale as the block stores it, in f16.
int NearestCode(float x, float scale, float offset, int least, int most) {
  if (scale == 0.0f) return std::clamp(0, least, most);
  return std::clamp(static_cast<int>(std::lrint((x - offset) / scale)), least, most);
}

void PutNibble(uint8_t codes[16], int i, int q) {
  codes[i % 16] = static_cast<uint8_t>(codes[i % 16] | (q & 15) << (4 * (i / 16)));
}

void PutHighBit(uint8_t high[4], int i, int q) {
  high[i / 8] = static_cast<uint8_t>(high[i / 8] | (q >> 4 & 1) << (i % 8));
}

// A scale for signed codes of which the most negative, `least`, has one more step than the most
// positive: the value of largest magnitude becomes exactly `least`.
float SignedScale(const float* x, int least) {
  const float* extreme =
      std::max_element(x, x + 32, [](float a, float b) { return std::fabs(a) < std::fabs(b); });
  return *extreme / static_cast<float>(least);
}

void Encode(const float* x, BlockQ8_0* block) {
  float largest = 0.0f;
  for (int i = 0; i < 32; ++i) largest = std::max(largest, std::fabs(x[i]));
  block->d = FloatToHalf(largest / 127.0f);
  const float d = HalfToFloat(block->d);
  for (int i = 0; i < 32; ++i)
    block->codes[i] = static_cast<int8_t>(NearestCode(x[i], d, 0.0f, -127, 127));
}

void Encode(const float* x, BlockQ4_0* block) {
  block->d = FloatToHalf(SignedScale(x, -8));
  const float d = HalfToFloat(block->d);
  for (int i = 0; i < 32; ++i) PutNibble(block->codes, i, NearestCode(x[i], d, 0.0f, -8, 7) + 8);
}

void Encode(const float* x, BlockQ5_0* block) {
  block->d = FloatToHalf(SignedScale(x, -16));
  const float d = HalfToFloat(block->d);
  for (int i = 0; i < 32; ++i) {
    const int q = NearestCode(x[i], d, 0.0f, -16, 15) + 16;
    PutNibble(block->codes, i, q);
    PutHighBit(block->high, i, q);
  }
}

void Encode(const float* x, BlockQ4_1* block) {
  const auto [least, most] = std::minmax_element(x, x + 32);
  block->d = FloatToHalf((*most - *least) / 15.0f);
  block->m = FloatToHalf(*least);
  const float d = HalfToFloat(block->d), m = HalfToFloat(block->m);
  for (int i = 0; i < 32; ++i) PutNibble(block->codes, i, NearestCode(x[i], d, m, 0, 15));
}

void Encode(const float* x, BlockQ5_1* block) {
  const auto [least, most] = std::minmax_element(x, x + 32);
  block->d = FloatToHalf((*most - *least) / 31.0f);
  block->m = FloatToHalf(*least);
  const float d = HalfToFloat(block->d), m = HalfToFloat(block->m);
  for (int i = 0; i < 32; ++i) {
    const int q = NearestCode(x[i], d, m, 0, 31);
    PutNibble(block->codes, i, q);
    PutHighBit(block->high, i, q);
  }
}

template <typename T>
void EncodeAll(const float* values, int64_t n, std::byte* blocks) {
  TQ_CHECK(n % 32 == 0);
  for (int64_t i = 0; i < n; i += 32, blocks += sizeof(T)) {
    T block = {};
    Encode(values + i, &block);
    std::memcpy(blocks, &block, sizeof(block));
  }
}

template <uint16_t (*kConvert)(float)>
void EncodeHalves(const float* values, int64_t n, std::byte* blocks) {
  for (int64_t i = 0; i < n; ++i) {
    const uint16_t bits = kConvert(values[i]);
    std::memcpy(blocks + 2 * i, &bits, sizeof(bits));
  }
}

}  // namespace

bool CanQuantize(BlockFormat format) {
  switch (format) {
    case BlockFormat::kF32:
    case BlockFormat::kF16:
    case BlockFormat::kBF16:
    case BlockFormat::kQ8_0:
    case BlockFormat::kQ4_0:
    case BlockFormat::kQ4_1:
    case BlockFormat::kQ5_0:
    case BlockFormat::kQ5_1:
      return true;
    default:
      return false;
  }
}

void QuantizeRow(BlockFormat format, const float* values, int64_t n, std::byte* blocks) {
  switch (format) {
    case BlockFormat::kF32:
      std::memcpy(blocks, values, static_cast<size_t>(n) * sizeof(float));
      return;
    case BlockFormat::kF16:
      return EncodeHalves<FloatToHalf>(values, n, blocks);
    case BlockFormat::kBF16:
      return EncodeHalves<FloatToBFloat16>(values, n, blocks);
    case BlockFormat::kQ8_0:
      return EncodeAll<BlockQ8_0>(values, n, blocks);
    case BlockFormat::kQ4_0:
      return EncodeAll<BlockQ4_0>(values, n, blocks);
    case BlockFormat::kQ4_1:
      return EncodeAll<BlockQ4_1>(values, n, blocks);
    case BlockFormat::kQ5_0:
      return EncodeAll<BlockQ5_0>(values, n, blocks);
    case BlockFormat::kQ5_1:
      return EncodeAll<BlockQ5_1>(values, n, blocks);
    default:
      Throw(ErrorCode::kUnsupported, "cannot quantise to {}", InfoOf(format).name);
  }
}

}  // namespace tq
