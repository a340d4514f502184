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

template <typename... Params, typename... Args>
void LaunchChainedWithMemory(void (*kernel)(Params...), dim3 grid, unsigned threads,
                             size_t shared_bytes, cudaStream_t stream, Args... args) {
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = 1;
  cudaLaunchKernelEx(&config, kernel, static_cast<Params>(args)...);
}

template <typename... Params, typename... Args>
void LaunchChained(void (*kernel)(Params...), dim3 grid, unsigned threads, cudaStream_t stream,
                   Args... args) {
  LaunchChainedWithMemory(kernel, grid, threads, 0, stream, args...);
}

}  // namespace tq::cuda
