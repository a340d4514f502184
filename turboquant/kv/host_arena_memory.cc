// SPDX-License-Identifier: Apache-2.0
#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "turboquant/base/error.h"
#include "turboquant/kv/page_arena.h"

namespace tq {
namespace {

constexpr uint64_t kSlab = PageArena::kSlabBytes;

class HostArenaMemory : public ArenaMemory {
 public:
  explicit HostArenaMemory(uint64_t reserve_bytes) {
    if (reserve_bytes == 0 || reserve_bytes > uint64_t{1} << 46) {
      Throw(ErrorCode::kInvalidArgument, "cannot reserve {} bytes of addresses for the cache",
            reserve_bytes);
    }
    reserved_ = (reserve_bytes + kSlab - 1) / kSlab * kSlab;
    mapped_ =
        reserved_ + kSlab;  // room to align the base to a slab, so that slabs can be huge pages
    void* p = mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
      Throw(ErrorCode::kOutOfMemory, "cannot reserve {} bytes of addresses for the cache: {}",
            reserved_, std::strerror(errno));
    }
    mapping_ = static_cast<std::byte*>(p);
    const auto address = reinterpret_cast<uintptr_t>(mapping_);
    base_ = mapping_ + ((address + kSlab - 1) / kSlab * kSlab - address);
  }
  ~HostArenaMemory() override { munmap(mapping_, mapped_); }

  std::byte* base() override { return base_; }
  uint64_t reserved_bytes() const override { return reserved_; }

  bool Commit(uint64_t offset, uint64_t bytes) override {
    if (mprotect(base_ + offset, bytes, PROT_READ | PROT_WRITE) != 0) {
      Throw(ErrorCode::kOutOfMemory,
            "the system gives no more memory for the cache ({} bytes asked for): {}", bytes,
            std::strerror(errno));
    }
    madvise(base_ + offset, bytes,
            MADV_HUGEPAGE);  // advice only: fewer TLB misses where the system grants it
    return true;
  }
  void Decommit(uint64_t offset, uint64_t bytes) override {
    madvise(base_ + offset, bytes, MADV_DONTNEED);
    mprotect(base_ + offset, bytes, PROT_NONE);
  }

 private:
  std::byte* mapping_ = nullptr;
  uint64_t mapped_ = 0;
  std::byte* base_ = nullptr;
  uint64_t reserved_ = 0;
};

}  // namespace

void ArenaMemory::CopyBlock(uint64_t from_offset, uint64_t to_offset, uint64_t bytes) {
  std::memcpy(base() + to_offset, base() + from_offset, bytes);
}
void ArenaMemory::ZeroBlock(uint64_t offset, uint64_t bytes) {
  std::memset(base() + offset, 0, bytes);
}
void ArenaMemory::ReadBlock(uint64_t offset, std::byte* out, uint64_t bytes) {
  std::memcpy(out, base() + offset, bytes);
}
void ArenaMemory::WriteBlock(uint64_t offset, const std::byte* in, uint64_t bytes) {
  std::memcpy(base() + offset, in, bytes);
}

std::unique_ptr<ArenaMemory> MakeHostArenaMemory(uint64_t reserve_bytes) {
  return std::make_unique<HostArenaMemory>(reserve_bytes);
}

}  // namespace tq
