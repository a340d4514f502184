// SPDX-License-Identifier: Apache-2.0
#include "turboquant/kv/cuda/device_arena_memory.h"

#include "turboquant/base/cuda/cuda_error.h"
#include "turboquant/base/cuda/virtual_memory.h"
#include "turboquant/base/error.h"

namespace tq::cuda {
namespace {

constexpr uint64_t kSlab = PageArena::kSlabBytes;

class DeviceArenaMemory final : public ArenaMemory {
 public:
  DeviceArenaMemory(uint64_t reserve_bytes, cudaStream_t stream, std::function<void()> before)
      : range_(reserve_bytes, kSlab), stream_(stream), before_(std::move(before)) {}
  ~DeviceArenaMemory() override {
    try {
      before_();     // work that a step which failed has left
    } catch (...) {  // nobody is left to tell
    }
  }

  std::byte* base() override { return range_.base(); }
  uint64_t reserved_bytes() const override { return range_.bytes(); }

  bool Commit(uint64_t offset, uint64_t bytes) override {
    before_();  // a piece may be taken from elsewhere
    range_.Map(offset / kSlab, bytes / kSlab);
    return false;
  }
  void Decommit(uint64_t offset, uint64_t bytes) override {
    bool waited = false;
    for (uint64_t done = 0; done < bytes; done += kSlab) {
      const size_t piece = (offset + done) / kSlab;
      if (range_.Retire(piece)) continue;  // who gets it next clears it first, in the stream
      if (!waited) {
        before_();
        Check(cudaStreamSynchronize(stream_), "waiting before cache memory goes back");
        waited = true;
      }
      range_.Unmap(piece);
    }
  }

  void CopyBlock(uint64_t from_offset, uint64_t to_offset, uint64_t bytes) override {
    before_();
    Check(cudaMemcpyAsync(base() + to_offset, base() + from_offset, bytes, cudaMemcpyDeviceToDevice,
                          stream_),
          "copying a cache page");
  }
  void ZeroBlock(uint64_t offset, uint64_t bytes) override {
    before_();
    Check(cudaMemsetAsync(base() + offset, 0, bytes, stream_), "clearing a cache page");
  }
  void ReadBlock(uint64_t offset, std::byte* out, uint64_t bytes) override {
    before_();
    Check(cudaMemcpyAsync(out, base() + offset, bytes, cudaMemcpyDeviceToHost, stream_),
          "reading a cache page");
    Check(cudaStreamSynchronize(stream_), "reading a cache page");
  }
  void WriteBlock(uint64_t offset, const std::byte* in, uint64_t bytes) override {
    before_();
    Check(cudaMemcpyAsync(base() + offset, in, bytes, cudaMemcpyHostToDevice, stream_),
          "writing a cache page");
    Check(cudaStreamSynchronize(stream_), "writing a cache page");
  }

 private:
  VirtualRange range_;
  cudaStream_t stream_;
  std::function<void()> before_;
};

}  // namespace

std::unique_ptr<ArenaMemory> MakeDeviceArenaMemory(uint64_t reserve_bytes, cudaStream_t stream,
                                                   std::function<void()> before) {
  if (reserve_bytes == 0 || reserve_bytes > uint64_t{1} << 46) {
    Throw(ErrorCode::kInvalidArgument, "cannot reserve {} bytes of addresses for the cache",
          reserve_bytes);
  }
  return std::make_unique<DeviceArenaMemory>(reserve_bytes, stream, std::move(before));
}

}  // namespace tq::cuda
