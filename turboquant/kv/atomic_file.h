// SPDX-License-Identifier: Apache-2.0
// A file that appears whole or not at all: written beside its target, flushed to the disk, renamed
// over it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace tq {

class AtomicFile {
 public:
  // Opens "TARGET.tmp". What a killed writer left there is overwritten. Throws kIo, also while
  // another process writes it.
  explicit AtomicFile(const std::filesystem::path& target);
  // Without Commit the temporary file is removed and the target stays as it was.
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void WriteAt(uint64_t offset, std::span<const std::byte> bytes);  // throws kIo
  void Commit();                                                    // throws kIo

 private:
  [[noreturn]] void Fail(const char* what) const;

  std::filesystem::path target_;
  std::filesystem::path temporary_;
  int fd_ = -1;
  bool committed_ = false;
};

}  // namespace tq
