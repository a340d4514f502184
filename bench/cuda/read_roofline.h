// SPDX-License-Identifier: Apache-2.0
// How fast this device reads: what every figure of the CUDA benchmarks is held against.
#pragma once

#include <algorithm>
#include <cstdio>

#include "bench/cuda/bench_kernels.h"
#include "bench/cuda/graph_timer.h"

namespace tq {

// GB/s of 4 GiB read once, by the best of three grids; printed.
inline double MeasureReadRoofline() {
  DeviceBuffer<std::byte> big(uint64_t{4} << 30);
  DeviceBuffer<uint32_t> out(1);
  int processors = 0;
  CheckCuda(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, 0), "attribute");
  double roofline = 0;
  for (const int per : {4, 8, 16}) {
    const double us = TimeInGraph(1, 10, [&](int, cudaStream_t stream) {
      ReadAll(big.data(), big.size(), out.data(), processors * per, stream);
    });
    roofline = std::max(roofline, static_cast<double>(big.size()) / us * 1e-3);
  }
  std::printf("read roofline: %.0f GB/s\n", roofline);
  return roofline;
}

}  // namespace tq
