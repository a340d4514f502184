// SPDX-License-Identifier: Apache-2.0
// A file mapped read-only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace tq {

class MappedFile {
 public:
  // Throws kNotFound (no such file), kIo (unreadable, a directory, cannot map).
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;
  MappedFile(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }

  // Tells the system that this byte range will not be read again soon, so that it leaves resident
  // memory.
  void Release(uint64_t offset, uint64_t size) const;

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace tq
