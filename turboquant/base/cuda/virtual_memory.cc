// SPDX-License-Identifier: Apache-2.0
#include "turboquant/base/cuda/virtual_memory.h"

#include <cuda.h>

#include <algorithm>
#include <utility>

#include "turboquant/base/cuda/cuda_error.h"
#include "turboquant/base/error.h"

namespace tq::cuda {
namespace {

// Pieces of 2 MiB: the pages of a prompt of 4096 tokens with f16, 8B shape.
constexpr size_t kMostIdle = 256;

template <typename Function>
void Find(Function& function, const char* name) {
  void* address = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  const cudaError_t status =
      cudaGetDriverEntryPointByVersion(name, &address, 12000, cudaEnableDefault, &found);
  if (status != cudaSuccess || found != cudaDriverEntryPointSuccess || address == nullptr)
    Throw(ErrorCode::kUnsupported,
          "the NVIDIA driver has no {}: install a driver for CUDA 13 (580 or newer)", name);
  function = reinterpret_cast<Function>(address);
}

struct Driver {
  decltype(&cuMemAddressReserve) reserve = nullptr;
  decltype(&cuMemAddressFree) free_address = nullptr;
  decltype(&cuMemCreate) create = nullptr;
  decltype(&cuMemRelease) release = nullptr;
  decltype(&cuMemMap) map = nullptr;
  decltype(&cuMemUnmap) unmap = nullptr;
  decltype(&cuMemSetAccess) set_access = nullptr;
  decltype(&cuMemGetAllocationGranularity) granularity = nullptr;
  decltype(&cuGetErrorString) error_string = nullptr;

  Driver() {
    Check(cudaFree(nullptr), "starting it");  // makes the device's context current
    Find(reserve, "cuMemAddressReserve");
    Find(free_address, "cuMemAddressFree");
    Find(create, "cuMemCreate");
    Find(release, "cuMemRelease");
    Find(map, "cuMemMap");
    Find(unmap, "cuMemUnmap");
    Find(set_access, "cuMemSetAccess");
    Find(granularity, "cuMemGetAllocationGranularity");
    Find(error_string, "cuGetErrorString");
  }
  void Check(CUresult result, const char* what) const {
    if (result == CUDA_SUCCESS) return;
    const char* text = "unknown error";
    error_string(result, &text);
    Throw(result == CUDA_ERROR_OUT_OF_MEMORY ? ErrorCode::kOutOfMemory : ErrorCode::kIo,
          "the GPU failed while {}: {}", what, text);
  }
  static void Check(cudaError_t status, const char* what) { cuda::Check(status, what); }
};

const Driver& TheDriver() {
  static const Driver driver;
  return driver;
}

CUmemAllocationProp PropertiesOfMemory() {
  CUmemAllocationProp properties = {};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  Check(cudaGetDevice(&properties.location.id), "asking for the device in use");
  return properties;
}

}  // namespace

uint64_t VirtualRange::granularity() {
  const CUmemAllocationProp properties = PropertiesOfMemory();
  size_t bytes = 0;
  TheDriver().Check(TheDriver().granularity(&bytes, &properties, CU_MEM_ALLOC_GRANULARITY_MINIMUM),
                    "asking for the size of memory pieces");
  return bytes;
}

VirtualRange::VirtualRange(uint64_t bytes, uint64_t piece_bytes) : piece_bytes_(piece_bytes) {
  TQ_CHECK(piece_bytes % granularity() == 0);
  pieces_.resize((bytes + piece_bytes - 1) / piece_bytes);
  CUdeviceptr address = 0;
  TheDriver().Check(TheDriver().reserve(&address, this->bytes(), piece_bytes, 0, 0),
                    "reserving addresses for the cache");
  base_ = address;
}

VirtualRange::~VirtualRange() {
  const Driver& driver = TheDriver();
  cudaDeviceSynchronize();
  for (size_t piece = 0; piece < pieces_.size(); ++piece) {
    if (pieces_[piece] == 0) continue;
    driver.unmap(base_ + piece * piece_bytes_, piece_bytes_);
    driver.release(pieces_[piece]);
  }
  driver.free_address(base_, bytes());
}

void VirtualRange::Map(size_t first, size_t count) {
  size_t done = 0, allowed = 0;
  std::vector<size_t> was_idle;
  try {
    for (; done < count; ++done) {
      const size_t piece = first + done;
      if (const auto idle = std::ranges::find(idle_, piece); idle != idle_.end()) {
        was_idle.push_back(piece);
        idle_.erase(idle);
        Allow(first + allowed, done - allowed);
        allowed = done + 1;
      } else {
        MapNew(piece);
      }
    }
    Allow(first + allowed, done - allowed);
  } catch (...) {
    idle_.insert(idle_.end(), was_idle.begin(), was_idle.end());
    for (size_t piece = first; piece < first + done; ++piece) {
      if (std::ranges::find(was_idle, piece) == was_idle.end()) Unmap(piece);
    }
    throw;
  }
}

uint64_t VirtualRange::Create() {
  const CUmemAllocationProp properties = PropertiesOfMemory();
  CUmemGenericAllocationHandle handle = 0;
  const CUresult created = TheDriver().create(&handle, piece_bytes_, &properties, 0);
  if (created == CUDA_ERROR_OUT_OF_MEMORY) {
    if (idle_.empty()) ThrowOutOfMemory(piece_bytes_, "the cache");
    return TakeIdle();
  }
  TheDriver().Check(created, "taking memory for the cache");
  return handle;
}

void VirtualRange::MapNew(size_t piece) {
  TQ_CHECK(pieces_[piece] == 0);
  const uint64_t handle = Create();
  const CUresult mapped = TheDriver().map(base_ + piece * piece_bytes_, piece_bytes_, 0, handle, 0);
  if (mapped != CUDA_SUCCESS) TheDriver().release(handle);
  TheDriver().Check(mapped, "mapping memory for the cache");
  pieces_[piece] = handle;
}

// A call for several pieces takes as long as one for one: 31 us of the 50 that mapping one takes.
void VirtualRange::Allow(size_t first, size_t count) {
  if (count == 0) return;
  CUmemAccessDesc access = {};
  access.location = PropertiesOfMemory().location;
  access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  TheDriver().Check(
      TheDriver().set_access(base_ + first * piece_bytes_, count * piece_bytes_, &access, 1),
      "mapping memory for the cache");
}

bool VirtualRange::Retire(size_t piece) {
  TQ_CHECK(pieces_[piece] != 0);
  if (idle_.size() == kMostIdle) return false;
  idle_.push_back(piece);
  return true;
}

uint64_t VirtualRange::TakeIdle() {
  const size_t piece = idle_.back();
  // What was launched before it retired may still use it.
  Check(cudaDeviceSynchronize(), "waiting before cache memory moves");
  TheDriver().Check(TheDriver().unmap(base_ + piece * piece_bytes_, piece_bytes_),
                    "unmapping cache memory");
  idle_.pop_back();
  return std::exchange(pieces_[piece], 0);
}

void VirtualRange::Unmap(size_t piece) {
  TQ_CHECK(pieces_[piece] != 0);
  const Driver& driver = TheDriver();
  driver.Check(driver.unmap(base_ + piece * piece_bytes_, piece_bytes_), "unmapping cache memory");
  driver.Check(driver.release(std::exchange(pieces_[piece], 0)), "giving back cache memory");
}

}  // namespace tq::cuda
