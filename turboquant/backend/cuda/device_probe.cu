// SPDX-License-Identifier: Apache-2.0
#include "turboquant/backend/cuda/device_probe.h"

namespace tq::cuda {
namespace {

__global__ void Nothing() {}

}  // namespace

cudaError_t ProbeKernel() {
  Nothing<<<1, 1>>>();
  const cudaError_t launched = cudaGetLastError();
  return launched != cudaSuccess ? launched : cudaDeviceSynchronize();
}

}  // namespace tq::cuda
