// SPDX-License-Identifier: Apache-2.0
// NumPy's array files (.npy, format versions 1 to 3): little-endian f16 and f32 in C order.
// https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "turboquant/kv/atomic_file.h"

namespace tq::lab {

enum class NpyType { kF16, kF32 };

struct NpyArray {
  NpyType type = NpyType::kF32;  // in the file; values are f32 either way
  std::vector<int64_t> shape;
  std::vector<float> values;  // the last dimension runs fastest
};

// Throws kNotFound, kIo, kCorruptFile (foreign, damaged, truncated: what), kUnsupported (a type or
// an order that is not read here: what to convert it with).
NpyArray ReadNpy(const std::filesystem::path& path);

// Written piece by piece; what is not finished disappears.
class NpyWriter {
 public:
  NpyWriter(const std::filesystem::path& path, NpyType type, std::vector<int64_t> shape);
  void Write(std::span<const float> values);  // throws kIo
  void Finish();                              // all values are there

 private:
  void WriteBytes(std::span<const std::byte> bytes);

  AtomicFile file_;
  NpyType type_;
  int64_t values_left_;
  uint64_t written_ = 0;
};

std::string ShapeText(std::span<const int64_t> shape);  // "[128, 2, 64]"

}  // namespace tq::lab
