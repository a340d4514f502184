// SPDX-License-Identifier: Apache-2.0
#include "turboquant/backend/cuda/step_graphs.h"

#include <algorithm>

#include "turboquant/base/cuda/cuda_error.h"
#include "turboquant/base/error.h"

namespace tq::cuda {

void StepGraphs::Run(const StepKey& key, const std::function<void()>& body) {
  const auto entry = std::ranges::find(entries_, key, &Entry::key);
  if (entry == entries_.end()) {
    body();
    // Noted after the body: what it allocated has cleared the list.
    if (entries_.size() == kMostGraphs) Clear();
    entries_.push_back({key, nullptr});
    return;
  }
  cudaGraphExec_t graph = entry->graph;
  if (graph == nullptr) {
    graph = Capture(body);
    entry->graph = graph;
  }
  Check(cudaGraphLaunch(graph, stream_), "launching a decode step");
}

void StepGraphs::Clear() {
  TQ_CHECK(!capturing_);  // a first run as it is has given every workspace its size
  for (const Entry& entry : entries_) {
    if (entry.graph != nullptr) cudaGraphExecDestroy(entry.graph);
  }
  entries_.clear();
}

cudaGraphExec_t StepGraphs::Capture(const std::function<void()>& body) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  Check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "capturing a step");
  capturing_ = true;
  try {
    body();
  } catch (...) {
    capturing_ = false;
    cudaStreamEndCapture(stream_, &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    cudaGetLastError();
    throw;
  }
  capturing_ = false;
  Check(cudaStreamEndCapture(stream_, &graph), "capturing a step");
  const cudaError_t status = cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  Check(status, "preparing a decode step");
  return executable;
}

}  // namespace tq::cuda
