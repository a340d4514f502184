// SPDX-License-Identifier: Apache-2.0
// Kernels that may start while the one before them ends (programmatic dependent launch, compute
// capability 9.0 and newer; elsewhere launches follow each other as usual). Such a kernel calls
// WaitForInputs in every thread before it touches anything that an earlier kernel writes or still
// reads; what it does before overlaps the end of the one before.
#pragma once

#include <cuda_runtime.h>

namespace tq::cuda {

__device__ __forceinline__ void WaitForInputs() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// The next kernel may be started from here on (as soon as there is room for it).
__device__ __forceinline__ void LetNextStart() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

// What part of a multiprocessor's memory a kernel would have be shared memory; the rest is its
// first-level cache, in which what it loads arrives. kAnyShared: what the blocks need, and else
// however the multiprocessor is divided already.
inline constexpr int kAnyShared = -1;

struct ChainedLaunch {
  dim3 grid;
  unsigned threads = 0;
  size_t shared_bytes = 0;
  int shared_percent = kAnyShared;
};

template <typename... Params, typename... Args>
void LaunchChainedAs(const ChainedLaunch& launch, void (*kernel)(Params...), cudaStream_t stream,
                     Args... args) {
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributePreferredSharedMemoryCarveout;
  attributes[1].val.sharedMemCarveout = static_cast<unsigned>(launch.shared_percent);
  cudaLaunchConfig_t config = {};
  config.gridDim = launch.grid;
  config.blockDim = dim3(launch.threads);
  config.dynamicSmemBytes = launch.shared_bytes;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = launch.shared_percent == kAnyShared ? 1 : 2;
  cudaLaunchKernelEx(&config, kernel, static_cast<Params>(args)...);
}

template <typename... Params, typename... Args>
void LaunchChained(void (*kernel)(Params...), dim3 grid, unsigned threads, cudaStream_t stream,
                   Args... args) {
  LaunchChainedAs({grid, threads}, kernel, stream, args...);
}

}  // namespace tq::cuda
