// SPDX-License-Identifier: Apache-2.0
// Times launches the way the engine makes them: inside a CUDA graph.
#pragma once

#include <algorithm>
#include <chrono>
#include <vector>

#include "device_buffer.h"

namespace tq {

// Median microseconds of one of `calls` launches inside a graph; launch(i, stream) makes one.
template <typename Fn>
double TimeInGraph(int calls, int replays, Fn&& launch) {
  cudaStream_t stream;
  CheckCuda(cudaStreamCreate(&stream), "stream");
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  launch(0, stream);
  CheckCuda(cudaStreamSynchronize(stream), "first launch");
  CheckCuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
  for (int i = 0; i < calls; ++i) launch(i, stream);
  CheckCuda(cudaStreamEndCapture(stream, &graph), "end of capture");
  CheckCuda(cudaGraphInstantiate(&exec, graph, 0), "instantiate");
  cudaEvent_t a, b;
  CheckCuda(cudaEventCreate(&a), "event");
  CheckCuda(cudaEventCreate(&b), "event");
  std::vector<double> times;
  for (int i = 0; i < replays + 2; ++i) {
    CheckCuda(cudaEventRecord(a, stream), "record");
    CheckCuda(cudaGraphLaunch(exec, stream), "graph");
    CheckCuda(cudaEventRecord(b, stream), "record");
    CheckCuda(cudaEventSynchronize(b), "replay");
    float ms = 0;
    CheckCuda(cudaEventElapsedTime(&ms, a, b), "elapsed");
    if (i >= 2) times.push_back(static_cast<double>(ms) * 1e3 / calls);
  }
  std::sort(times.begin(), times.end());
  cudaEventDestroy(a);
  cudaEventDestroy(b);
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
  return times[times.size() / 2];
}

// Median microseconds that the host sees from the launch of a graph of what `launch` makes to its
// end.
template <typename Fn>
double HostTimeOfGraph(Fn&& launch) {
  cudaStream_t stream;
  CheckCuda(cudaStreamCreate(&stream), "stream");
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  CheckCuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
  launch(stream);
  CheckCuda(cudaStreamEndCapture(stream, &graph), "end of capture");
  CheckCuda(cudaGraphInstantiate(&exec, graph, 0), "instantiate");
  std::vector<double> times;
  for (int i = 0; i < 20; ++i) {
    const auto start = std::chrono::steady_clock::now();
    CheckCuda(cudaGraphLaunch(exec, stream), "graph");
    CheckCuda(cudaStreamSynchronize(stream), "replay");
    times.push_back(
        std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start)
            .count());
  }
  std::sort(times.begin(), times.end());
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
  return times[times.size() / 2];
}

}  // namespace tq
