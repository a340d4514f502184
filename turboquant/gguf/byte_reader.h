// SPDX-License-Identifier: Apache-2.0
// Reads little-endian values from a byte range and refuses, with file name and offset, to read past
// its end.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "turboquant/base/error.h"

namespace tq {

static_assert(std::endian::native == std::endian::little,
              "GGUF files are read in place, little-endian");

class ByteReader {
 public:
  // `name` is the file's, for messages; both must outlive the reader.
  ByteReader(std::span<const std::byte> bytes, std::string_view name)
      : bytes_(bytes), name_(name) {}

  uint64_t offset() const { return offset_; }
  uint64_t size() const { return bytes_.size(); }
  uint64_t remaining() const { return bytes_.size() - offset_; }

  // `what` completes "the file ends inside ...".
  template <typename T>
  T Read(std::string_view what) {
    static_assert(std::is_arithmetic_v<T>);
    T value;
    std::memcpy(&value, Take(sizeof(T), what).data(), sizeof(T));
    return value;
  }

  std::span<const std::byte> Take(uint64_t size, std::string_view what) {
    if (size > remaining()) {
      Throw(ErrorCode::kCorruptFile,
            "{}: {} at byte {} needs {} bytes, but only {} are left: the file is damaged or "
            "incomplete",
            name_, what, offset_, size, remaining());
    }
    const auto taken = bytes_.subspan(offset_, size);
    offset_ += size;
    return taken;
  }

  // A string with a 64-bit length in front.
  std::string_view ReadString(std::string_view what) {
    const uint64_t length = Read<uint64_t>(what);
    const auto text = Take(length, what);
    return {reinterpret_cast<const char*>(text.data()), text.size()};
  }

  // Refuses a count of things of at least `least_bytes` each that cannot be in the bytes left.
  void CheckCount(uint64_t count, uint64_t least_bytes, std::string_view what) const {
    if (count > remaining() / least_bytes) {
      Fail(offset_, "{} {} cannot fit in the {} bytes left: the file is damaged or incomplete",
           count, what, remaining());
    }
  }

  template <typename... Args>
  [[noreturn]] void Fail(uint64_t at, fmt::format_string<Args...> format, Args&&... args) const {
    Throw(ErrorCode::kCorruptFile, "{}: {} (at byte {})", name_,
          fmt::format(format, std::forward<Args>(args)...), at);
  }

 private:
  std::span<const std::byte> bytes_;
  std::string_view name_;
  uint64_t offset_ = 0;
};

}  // namespace tq
