// SPDX-License-Identifier: Apache-2.0
#include "turboquant/codec/cpu/rows_scalar.h"

#include <cmath>
#include <cstring>

#include "turboquant/codec/cpu/scalar_math.h"

namespace tq::scalar {
namespace {

constexpr int kBlock = 32;
constexpr float kMaxBFloat16 = 0x1.fep127f;

// f16 scale = absmax / 127, then 32 int8.
void EncodeQ8(const float* x, std::byte* block) {
  float absmax = 0;
  for (int i = 0; i < kBlock; ++i) absmax = std::fmax(absmax, std::fabs(Sanitize(x[i])));
  const Half stored = ScaleOf8(absmax);
  StoreHalf(block, stored);
  for (int i = 0; i < kBlock; ++i) {
    block[2 + i] = static_cast<std::byte>(CodeOf8(Sanitize(x[i]), HalfToFloat(stored)));
  }
}

// f16 scale = (first value of largest magnitude) / -8, then 32 nibbles floor(x / scale + 8.5) in
// 0..15: low nibbles hold values 0..15, high ones 16..31.
void EncodeQ4(const float* x, std::byte* block) {
  float extreme = 0;
  for (int i = 0; i < kBlock; ++i) {
    const float value = Sanitize(x[i]);
    if (std::fabs(value) > std::fabs(extreme)) extreme = value;
  }
  const Half stored = FiniteHalf(extreme / -8.0f);
  const float scale = HalfToFloat(stored);
  StoreHalf(block, stored);
  unsigned code[kBlock];
  for (int i = 0; i < kBlock; ++i) {
    const float ratio = scale == 0.0f ? 0.0f : Clamp(Sanitize(x[i]) / scale, 8.0f);
    const int floor = static_cast<int>(ratio + 8.5f);  // not negative: truncation is floor
    code[i] = static_cast<unsigned>(floor > 15 ? 15 : floor);
  }
  for (int i = 0; i < kBlock / 2; ++i) {
    block[2 + i] = static_cast<std::byte>(code[i] | code[i + 16] << 4);
  }
}

}  // namespace

void EncodeRow(Codec codec, const float* x, int n, std::byte* row) noexcept {
  switch (codec) {
    case Codec::kF32:
      for (int i = 0; i < n; ++i) {
        const float value = Sanitize(x[i]);
        std::memcpy(row + 4 * i, &value, 4);
      }
      break;
    case Codec::kF16:
      for (int i = 0; i < n; ++i) StoreHalf(row + 2 * i, FiniteHalf(Sanitize(x[i])));
      break;
    case Codec::kBf16:
      for (int i = 0; i < n; ++i) {
        StoreHalf(row + 2 * i, FloatToBFloat16(Clamp(Sanitize(x[i]), kMaxBFloat16)));
      }
      break;
    case Codec::kQ8_0:
      for (int i = 0; i < n; i += kBlock) EncodeQ8(x + i, row + i / kBlock * 34);
      break;
    case Codec::kQ4_0:
      for (int i = 0; i < n; i += kBlock) EncodeQ4(x + i, row + i / kBlock * 18);
      break;
    default:
      break;
  }
}

void DecodeRow(Codec codec, const std::byte* row, int first, int n, float* out) noexcept {
  switch (codec) {
    case Codec::kF32:
      std::memcpy(out, row + 4 * first, 4 * static_cast<size_t>(n));
      break;
    case Codec::kF16:
      for (int i = 0; i < n; ++i) out[i] = HalfToFloat(LoadHalf(row + 2 * (first + i)));
      break;
    case Codec::kBf16:
      for (int i = 0; i < n; ++i) out[i] = BFloat16ToFloat(LoadHalf(row + 2 * (first + i)));
      break;
    case Codec::kQ8_0:
      for (int i = 0; i < n; ++i) {
        const std::byte* block = row + (first + i) / kBlock * 34;
        const auto code = static_cast<int8_t>(block[2 + (first + i) % kBlock]);
        out[i] = static_cast<float>(code) * HalfToFloat(LoadHalf(block));
      }
      break;
    case Codec::kQ4_0:
      for (int i = 0; i < n; ++i) {
        const std::byte* block = row + (first + i) / kBlock * 18;
        const int at = (first + i) % kBlock;
        const unsigned byte = static_cast<unsigned>(block[2 + at % 16]);
        const int code = static_cast<int>(at < 16 ? byte & 15u : byte >> 4) - 8;
        out[i] = static_cast<float>(code) * HalfToFloat(LoadHalf(block));
      }
      break;
    default:
      break;
  }
}

}  // namespace tq::scalar
