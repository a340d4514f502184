// SPDX-License-Identifier: Apache-2.0
// Decode steps as CUDA graphs: one launch instead of hundreds. A step of a new shape runs once as
// it is, so that every workspace has its size, is captured the second time and repeated from then
// on.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <vector>

#include "turboquant/backend/backend.h"

namespace tq::cuda {

class StepGraphs {
 public:
  explicit StepGraphs(cudaStream_t stream) : stream_(stream) {}
  ~StepGraphs() { Clear(); }
  StepGraphs(const StepGraphs&) = delete;
  StepGraphs& operator=(const StepGraphs&) = delete;

  void Run(const StepKey& key, const std::function<void()>& body);
  // Addresses that graphs hold are not valid any more.
  void Clear();
  bool capturing() const { return capturing_; }

 private:
  struct Entry {
    StepKey key;
    cudaGraphExec_t graph = nullptr;  // null: has run once
  };
  cudaGraphExec_t Capture(const std::function<void()>& body);

  static constexpr size_t kMostGraphs = 32;
  cudaStream_t stream_;
  std::vector<Entry> entries_;
  bool capturing_ = false;
};

}  // namespace tq::cuda
