// SPDX-License-Identifier: Apache-2.0
// Bench results as llama-bench prints them: markdown rows, JSON objects, CSV lines, with keys of
// the cache added.
#pragma once

#include <string>
#include <vector>

#include "lab/bench_result.h"

namespace tq::lab {

// What is the same for every row.
struct BenchMachine {
  std::string build_commit;
  std::string cpu_info;
  std::string backend = "CPU";
  std::string gpu_info;
  std::string model_filename;
  std::string model_type;   // "llama 135M Q4_1"
  uint64_t model_size = 0;  // bytes of weights
  uint64_t model_n_params = 0;
  int n_threads = 0;
};

enum class BenchFormat { kMarkdown, kJson, kJsonLines, kCsv };

class BenchReport {
 public:
  // show_types: columns for the cache types (markdown).
  BenchReport(BenchFormat format, BenchMachine machine, bool show_types);
  // Each returns the text to print at that point.
  std::string Header() const;
  std::string Row(const BenchResult& result);
  std::string Footer() const;

 private:
  std::vector<std::pair<std::string, std::string>> Fields(
      const BenchResult& result) const;  // key, JSON text
  BenchFormat format_;
  BenchMachine machine_;
  bool show_types_;
  int rows_ = 0;
};

}  // namespace tq::lab
