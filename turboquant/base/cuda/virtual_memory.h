// SPDX-License-Identifier: Apache-2.0
// An address range of the device that is given memory piece by piece: CUDA's virtual memory calls.
// They belong to the driver; they are looked up at run time, so nothing links libcuda and a program
// with the CUDA backend starts on machines without a driver.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tq::cuda {

class VirtualRange {
 public:
  // Pieces are `piece_bytes`, a multiple of granularity(). Throws kOutOfMemory.
  VirtualRange(uint64_t bytes, uint64_t piece_bytes);
  ~VirtualRange();
  VirtualRange(const VirtualRange&) = delete;
  VirtualRange& operator=(const VirtualRange&) = delete;

  std::byte* base() const { return reinterpret_cast<std::byte*>(base_); }
  uint64_t bytes() const { return pieces_.size() * piece_bytes_; }

  // Contents of mapped pieces are undefined. Throws kOutOfMemory, with none of them mapped.
  void Map(size_t first, size_t count);
  // The piece is not wanted for now. It stays as it is until Map asks for it again, because mapping
  // makes the host and the device wait; false if too many do so already: then it is to be unmapped.
  bool Retire(size_t piece);
  void Unmap(size_t piece);  // nothing on the device may use it any more

  static uint64_t granularity();  // of the current device

 private:
  uint64_t Create();    // memory for a piece, if need be that of a retired one
  uint64_t TakeIdle();  // the memory of a retired piece
  void MapNew(size_t piece);
  void Allow(size_t first, size_t count);  // the device may use these pieces

  uint64_t base_ = 0;
  uint64_t piece_bytes_;
  std::vector<uint64_t> pieces_;  // allocation handles, 0 = not mapped
  std::vector<size_t> idle_;      // retired pieces
};

}  // namespace tq::cuda
