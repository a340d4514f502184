// SPDX-License-Identifier: Apache-2.0
// A GGUF model file (v2, v3; single or split): header, metadata, tensor index. Every count and
// offset is checked against the bytes that are there before it is used.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "turboquant/base/mapped_file.h"
#include "turboquant/gguf/block_formats.h"

namespace tq {

// A metadata value. Integers are widened to 64 bits, floats to double. Arrays of strings, integers
// and floats; an array of arrays is refused.
using GgufValue = std::variant<bool, int64_t, uint64_t, double, std::string, std::vector<int64_t>,
                               std::vector<double>, std::vector<std::string>>;

struct GgufTensor {
  std::string name;
  BlockFormat format;
  std::vector<uint64_t> shape;       // as the file has it: shape[0] is the contiguous one
  std::span<const std::byte> data;   // inside the mapping
  const MappedFile* file = nullptr;  // that holds them, of the GgufFile; none: parsed from memory
  uint64_t file_offset = 0;          // of data in that file

  uint64_t num_values() const;
  // [rows, cols] of the matrix: cols = shape[0], rows = the product of the rest.
  uint64_t cols() const { return shape.empty() ? 1 : shape[0]; }
  uint64_t rows() const { return num_values() / cols(); }

  // Lets bytes [begin, begin + size) of `data`, which were converted, leave resident memory.
  void Release(uint64_t begin, uint64_t size) const {
    if (file != nullptr) file->Release(file_offset + begin, size);
  }
};

class GgufFile {
 public:
  // Opens `path`; if it is the first of a split set (name-00001-of-0000N.gguf), opens the others
  // too. Throws kNotFound, kIo, kCorruptFile (with the byte offset), kUnsupported (version, block
  // format, by name).
  static GgufFile Open(const std::filesystem::path& path);
  // Parses bytes in memory (tests, fuzzing). `bytes` must outlive the object and start at an
  // address that is a multiple of 8 (as allocated memory does), so that tensor data is aligned.
  static GgufFile Parse(std::span<const std::byte> bytes, std::string_view name);

  const std::map<std::string, GgufValue, std::less<>>& metadata() const { return metadata_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  uint64_t total_bytes() const { return total_bytes_; }

  const GgufTensor* FindTensor(std::string_view name) const;  // nullptr if absent
  const GgufTensor& Tensor(std::string_view name) const;      // throws kCorruptFile if absent

  bool Has(std::string_view key) const;
  // Typed look-ups; the one-argument form throws kCorruptFile naming the key if it is absent, both
  // if the type is wrong. Any integer type will do for GetUint (if not negative), integers also for
  // GetFloat and GetFloats.
  uint64_t GetUint(std::string_view key) const;
  uint64_t GetUint(std::string_view key, uint64_t fallback) const;
  double GetFloat(std::string_view key) const;
  double GetFloat(std::string_view key, double fallback) const;
  bool GetBool(std::string_view key, bool fallback) const;
  std::string GetString(std::string_view key) const;
  std::string GetString(std::string_view key, std::string_view fallback) const;
  const std::vector<std::string>& GetStrings(std::string_view key) const;
  std::vector<int64_t> GetInts(std::string_view key) const;
  std::vector<double> GetFloats(std::string_view key) const;

  // Hash of header and tensor index of all files (not of the weights): identifies a model cheaply.
  uint64_t Identity() const { return identity_; }

 private:
  void AddFile(std::span<const std::byte> bytes, std::string_view name, int file_index);
  void OpenOtherParts(const std::filesystem::path& first, uint64_t count);
  const GgufValue* Find(std::string_view key) const;
  const GgufValue& Require(std::string_view key) const;
  [[noreturn]] void WrongType(std::string_view key, std::string_view wanted) const;

  std::string name_;  // of the (first) file, for messages
  std::vector<std::shared_ptr<MappedFile>> files_;
  std::map<std::string, GgufValue, std::less<>> metadata_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, size_t, std::less<>> index_;
  uint64_t total_bytes_ = 0;
  uint64_t identity_ = 0;
};

}  // namespace tq
