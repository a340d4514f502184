// SPDX-License-Identifier: Apache-2.0
// Writes GGUF files, single or split: for tests and tools. Everything is kept in memory until it is
// written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "turboquant/gguf/block_formats.h"

namespace tq {

// A metadata value with the type that it has in the file: writer.Set("x.block_count", 5u) writes a
// UINT32.
using GgufOutValue =
    std::variant<uint8_t, int8_t, uint16_t, int16_t, uint32_t, int32_t, float, bool, std::string,
                 uint64_t, int64_t, double, std::vector<std::string>, std::vector<int32_t>,
                 std::vector<uint32_t>, std::vector<float>>;

class GgufWriter {
 public:
  // Other values than the defaults are written too, right or wrong: tests need wrong files. An
  // alignment other than 32 adds the key general.alignment.
  explicit GgufWriter(uint32_t alignment = 32, uint32_t version = 3)
      : alignment_(alignment), version_(version) {}

  void Set(std::string_view key, GgufOutValue value) {
    metadata_.emplace_back(key, std::move(value));
  }
  void SetString(std::string_view key, std::string_view text) { Set(key, std::string(text)); }

  // `data` must have the bytes of `shape` (shape[0] contiguous) in `format`.
  void AddTensor(std::string_view name, BlockFormat format, std::vector<uint64_t> shape,
                 std::vector<std::byte> data);
  // The same from values, through QuantizeRow (quantize.h).
  void AddTensor(std::string_view name, BlockFormat format, std::vector<uint64_t> shape,
                 const std::vector<float>& values);

  std::vector<std::byte> Serialize() const;
  // Throws kIo if the file cannot be written completely.
  void Write(const std::filesystem::path& path) const;
  // Writes <prefix>-00001-of-0000N.gguf and so on, tensors shared out in order. Returns the path of
  // the first.
  std::filesystem::path WriteSplit(const std::filesystem::path& prefix, int parts) const;

 private:
  struct Tensor {
    std::string name;
    BlockFormat format;
    std::vector<uint64_t> shape;
    std::vector<std::byte> data;
  };
  using Metadata = std::vector<std::pair<std::string, GgufOutValue>>;
  std::vector<std::byte> SerializePart(const Metadata& metadata, size_t first_tensor,
                                       size_t last_tensor) const;

  uint32_t alignment_;
  uint32_t version_;
  Metadata metadata_;
  std::vector<Tensor> tensors_;
};

}  // namespace tq
