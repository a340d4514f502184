// SPDX-License-Identifier: Apache-2.0
#include "turboquant/base/cuda/device_memory.h"

#include "turboquant/base/cuda/cuda_error.h"

namespace tq::cuda {

DeviceBytes::DeviceBytes(size_t size, const char* what) : size_(size) {
  if (size == 0) return;
  const cudaError_t status = cudaMalloc(&data_, size);
  if (status == cudaErrorMemoryAllocation) ThrowOutOfMemory(size, what);
  Check(status, what);
}
DeviceBytes::~DeviceBytes() { cudaFree(data_); }  // waits for the device; null is nothing

bool DeviceBytes::EnsureSize(size_t size, const char* what) {
  if (size <= size_) return false;
  { DeviceBytes old = std::move(*this); }  // first give back, then take
  *this = DeviceBytes(size, what);
  return true;
}

bool DeviceBytes::EnsureZeroed(size_t size, const char* what, cudaStream_t stream) {
  if (!EnsureSize(size, what)) return false;
  Check(cudaMemsetAsync(data_, 0, size_, stream), what);
  return true;
}

void CopyToDevice(void* device, const void* host, size_t bytes, const char* what) {
  // A copy from pageable memory may return before its last bytes have arrived.
  Check(cudaMemcpy(device, host, bytes, cudaMemcpyHostToDevice), what);
  Check(cudaStreamSynchronize(nullptr), what);
}

PinnedBytes::PinnedBytes(size_t size) : size_(size) {
  if (size > 0)
    Check(cudaHostAlloc(&data_, size, cudaHostAllocDefault), "taking pinned host memory");
}
PinnedBytes::~PinnedBytes() { cudaFreeHost(data_); }

bool PinnedBytes::EnsureSize(size_t size) {
  if (size <= size_) return false;
  *this = PinnedBytes(size);
  return true;
}

OwnedStream::OwnedStream(Priority priority) {
  int lowest = 0, highest = 0;  // the highest is the least number
  Check(cudaDeviceGetStreamPriorityRange(&lowest, &highest), "asking for priorities of streams");
  const int numbers[] = {lowest, highest + 1 < lowest ? highest + 1 : highest, highest};
  Check(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking,
                                     numbers[static_cast<size_t>(priority)]),
        "making a stream");
}
OwnedStream::~OwnedStream() { cudaStreamDestroy(stream_); }
void OwnedStream::Synchronize() const {
  Check(cudaStreamSynchronize(stream_), "waiting for its work");
}

OwnedEvent::OwnedEvent() {
  Check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "making an event");
}
OwnedEvent::~OwnedEvent() { cudaEventDestroy(event_); }
void OwnedEvent::Record(cudaStream_t stream) const {
  Check(cudaEventRecord(event_, stream), "recording an event");
}
void OwnedEvent::MakeWait(cudaStream_t stream) const {
  Check(cudaStreamWaitEvent(stream, event_, 0), "ordering streams");
}
void OwnedEvent::Synchronize() const {
  Check(cudaEventSynchronize(event_), "waiting for its work");
}

}  // namespace tq::cuda
