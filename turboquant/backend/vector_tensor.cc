// SPDX-License-Identifier: Apache-2.0
#include "turboquant/backend/vector_tensor.h"

#include <cstring>

#include "turboquant/base/error.h"
#include "turboquant/base/half.h"

namespace tq {
namespace {

void DecodeVector(const GgufTensor& tensor, float* out) {
  const uint64_t n = tensor.num_values();
  const std::byte* bytes = tensor.data.data();
  switch (tensor.format) {
    case BlockFormat::kF32:
      std::memcpy(out, bytes, n * sizeof(float));
      return;
    case BlockFormat::kF16:
    case BlockFormat::kBF16:
      for (uint64_t i = 0; i < n; ++i) {
        uint16_t bits;
        std::memcpy(&bits, bytes + i * sizeof bits, sizeof bits);
        out[i] = tensor.format == BlockFormat::kF16 ? HalfToFloat(bits) : BFloat16ToFloat(bits);
      }
      return;
    default:
      Throw(ErrorCode::kUnsupported,
            "tensor '{}' is a vector stored as {}: vectors are read as F32, F16 or BF16",
            tensor.name, InfoOf(tensor.format).name);
  }
}

}  // namespace

uint64_t ValuesOf(std::span<const GgufTensor* const> tensors) {
  uint64_t total = 0;
  for (const GgufTensor* tensor : tensors) total += tensor->num_values();
  return total;
}

void DecodeVectors(std::span<const GgufTensor* const> tensors, float* out) {
  for (const GgufTensor* tensor : tensors) {
    DecodeVector(*tensor, out);
    out += tensor->num_values();
  }
}

}  // namespace tq
