// SPDX-License-Identifier: Apache-2.0
// Sealing beside the steps: pages that no query of the step reads sealed yet are compressed on a
// stream of their own, and the next step waits for what is left of it.
#pragma once

#include <span>
#include <vector>

#include "turboquant/base/cuda/device_memory.h"
#include "turboquant/kv/cuda/page_kernels.h"
#include "turboquant/kv/kv_cache.h"

namespace tq::cuda {

class PageSealer {
 public:
  explicit PageSealer(cudaStream_t main) : main_(main) {}

  void Seal(const KvCache& cache, std::span<const SealTask> tasks);
  // The main stream goes on when all sealing so far is done.
  void MakeMainWait();

 private:
  cudaStream_t main_;
  OwnedStream side_;
  OwnedEvent encoded_;  // the pages' tokens are there
  OwnedEvent sealed_;
  bool pending_ = false;
  std::vector<SealJob> jobs_;
};

}  // namespace tq::cuda
