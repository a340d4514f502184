// SPDX-License-Identifier: Apache-2.0
// Stands in for turboquant/codec/cuda/launch.h: a small device with the shared memory of a large
// one.
#pragma once

#include "emulator.h"
#include "turboquant/base/error.h"
#include "turboquant/codec/cuda/stream.h"

namespace tq::cuda {

struct DeviceLimits {
  int processors;
  int shared_memory;
  bool group_mma;
};
inline DeviceLimits CurrentDeviceLimits() { return {5, 227 * 1024, true}; }

template <class... Args>
void Launch(void (*kernel)(Args...), int blocks, int threads, int shared_bytes, Stream,
            Args... args) {
  emulator::Run(blocks, threads, shared_bytes, [&] { kernel(args...); });
}
template <class... Args>
void LaunchMaybeOverlapping(bool, void (*kernel)(Args...), int blocks, int threads,
                            int shared_bytes, Stream stream, Args... args) {
  Launch(kernel, blocks, threads, shared_bytes, stream, args...);
}

}  // namespace tq::cuda
