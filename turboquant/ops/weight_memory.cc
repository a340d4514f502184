// SPDX-License-Identifier: Apache-2.0
#include "turboquant/ops/weight_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <mutex>

#include "turboquant/base/error.h"

namespace tq {
namespace {

constexpr size_t kLargePage = size_t{2} << 20;
constexpr size_t kSlabBytes = size_t{64}
                              << 20;  // address space; only what is touched becomes resident

size_t RoundUp(size_t n, size_t step) { return (n + step - 1) / step * step; }

class Slab {
 public:
  explicit Slab(size_t bytes) : size_(bytes), mapped_(bytes + kLargePage) {
    mapping_ = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping_ == MAP_FAILED)
      Throw(ErrorCode::kOutOfMemory, "cannot allocate {} bytes of memory for weights", bytes);
    const auto address = reinterpret_cast<uintptr_t>(mapping_);
    data_ = reinterpret_cast<uint8_t*>(RoundUp(address, kLargePage));
    madvise(data_, size_, MADV_HUGEPAGE);  // a hint: refusal costs speed only
  }
  ~Slab() { munmap(mapping_, mapped_); }
  Slab(const Slab&) = delete;
  Slab& operator=(const Slab&) = delete;

  // nullptr if it does not fit any more.
  uint8_t* Take(size_t bytes) {
    if (bytes > size_ - used_) return nullptr;
    uint8_t* piece = data_ + used_;
    used_ += RoundUp(bytes, 64);
    return piece;
  }

 private:
  size_t size_, mapped_;
  size_t used_ = 0;
  void* mapping_ = nullptr;
  uint8_t* data_ = nullptr;
};

}  // namespace

std::shared_ptr<uint8_t> AllocateWeightMemory(size_t bytes) {
  static std::mutex mutex;
  static std::weak_ptr<Slab> current;  // the slab lives as long as a piece of it
  const std::lock_guard lock(mutex);
  std::shared_ptr<Slab> slab = current.lock();
  uint8_t* piece = slab != nullptr ? slab->Take(bytes) : nullptr;
  if (piece == nullptr) {
    slab = std::make_shared<Slab>(RoundUp(std::max(bytes, kSlabBytes), kLargePage));
    piece = slab->Take(bytes);
    current = slab;
  }
  return {std::move(slab), piece};
}

}  // namespace tq
