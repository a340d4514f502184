// SPDX-License-Identifier: Apache-2.0
// Tensors of random blocks in any GGUF format: every code and fine scale occurs, f16 scales are of
// ordinary size, times `magnitude`.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "turboquant/base/half.h"
#include "turboquant/base/random.h"
#include "turboquant/gguf/block_layouts.h"
#include "turboquant/gguf/gguf_file.h"

namespace tq {

struct RandomTensor {
  std::vector<std::byte> bytes;
  GgufTensor tensor;
};

inline RandomTensor MakeRandomTensor(BlockFormat format, int64_t rows, int64_t cols, uint64_t seed,
                                     double magnitude = 1) {
  Random random(seed);
  const BlockFormatInfo& info = InfoOf(format);
  const int64_t blocks = rows * cols / info.values_per_block;
  RandomTensor r;
  r.bytes.resize(static_cast<size_t>(blocks) * info.bytes_per_block);
  auto scale = [&](double size) {
    return FloatToHalf(static_cast<float>((random.Uniform() < 0.5 ? -size : size) * magnitude *
                                          (0.5 + random.Uniform())));
  };
  auto put = [](std::byte* at, size_t offset, Half h) { std::memcpy(at + offset, &h, 2); };
  for (size_t i = 0; i < r.bytes.size(); i += 8) {
    const uint64_t bits = random.Next();
    std::memcpy(r.bytes.data() + i, &bits, std::min<size_t>(8, r.bytes.size() - i));
  }
  for (int64_t b = 0; b < blocks; ++b) {
    std::byte* at = r.bytes.data() + b * info.bytes_per_block;
    switch (format) {
      case BlockFormat::kF32: {
        const auto f = static_cast<float>(random.Gaussian());
        std::memcpy(at, &f, 4);
        break;
      }
      case BlockFormat::kF16:
        put(at, 0, FloatToHalf(static_cast<float>(random.Gaussian())));
        break;
      case BlockFormat::kBF16:
        put(at, 0, FloatToBFloat16(static_cast<float>(random.Gaussian())));
        break;
      case BlockFormat::kQ4_0:
        put(at, offsetof(BlockQ4_0, d), scale(0.1));
        break;
      case BlockFormat::kQ4_1:
        put(at, offsetof(BlockQ4_1, d), scale(0.1));
        put(at, offsetof(BlockQ4_1, m), scale(0.5));
        break;
      case BlockFormat::kQ5_0:
        put(at, offsetof(BlockQ5_0, d), scale(0.1));
        break;
      case BlockFormat::kQ5_1:
        put(at, offsetof(BlockQ5_1, d), scale(0.1));
        put(at, offsetof(BlockQ5_1, m), scale(0.5));
        break;
      case BlockFormat::kQ8_0:
        put(at, offsetof(BlockQ8_0, d), scale(0.01));
        break;
      case BlockFormat::kIQ4_NL:
        put(at, offsetof(BlockIQ4_NL, d), scale(0.01));
        break;
      case BlockFormat::kQ2_K:
        put(at, offsetof(BlockQ2_K, d), scale(0.05));
        put(at, offsetof(BlockQ2_K, dmin), scale(0.05));
        break;
      case BlockFormat::kQ3_K:
        put(at, offsetof(BlockQ3_K, d), scale(0.01));
        break;
      case BlockFormat::kQ4_K:
        put(at, offsetof(BlockQ4_K, d), scale(0.003));
        put(at, offsetof(BlockQ4_K, dmin), scale(0.02));
        break;
      case BlockFormat::kQ5_K:
        put(at, offsetof(BlockQ5_K, d), scale(0.003));
        put(at, offsetof(BlockQ5_K, dmin), scale(0.03));
        break;
      case BlockFormat::kQ6_K:
        put(at, offsetof(BlockQ6_K, d), scale(0.0005));
        break;
      case BlockFormat::kIQ4_XS:
        put(at, offsetof(BlockIQ4_XS, d), scale(0.001));
        break;
    }
  }
  r.tensor.name = "random";
  r.tensor.format = format;
  r.tensor.shape = {static_cast<uint64_t>(cols), static_cast<uint64_t>(rows)};
  r.tensor.data = r.bytes;
  return r;
}

}  // namespace tq
