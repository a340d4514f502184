// SPDX-License-Identifier: Apache-2.0
// The GPUs of this machine as this build sees them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tq {

struct GpuInfo {
  int index = 0;  // of "cuda:N"
  std::string name;
  int capability = 0;  // 10 * major + minor
  uint64_t total_bytes = 0;
  int multiprocessors = 0;
  std::string why_not;  // why no backend can be made on it; empty: one can
};

struct GpuList {
  std::vector<GpuInfo> gpus;
  std::string driver;    // "13.0", or empty
  std::string why_none;  // why gpus is empty
};

GpuList ListGpus();
// What attention of prompts runs on, on a GPU: "cuDNN 9.19.1", or "our own kernel: " and why.
std::string PromptAttention();

}  // namespace tq
