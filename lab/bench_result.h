// SPDX-License-Identifier: Apache-2.0
// What a speed test is and what it gave: plain data.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tq::lab {

// One test: n_prompt tokens in passes (pp), or n_gen single tokens (tg), or both in turn, behind
// n_depth tokens.
struct BenchCase {
  int n_prompt = 0;
  int n_gen = 0;
  int n_depth = 0;
  int n_batch = 2048;
  int n_ubatch = 512;
  std::string type_k = {}, type_v = {};  // as given
  std::string Name() const;              // "pp512", "tg128", "pp512+tg128", with " @ d4096"
};

struct BenchResult {
  BenchCase test;
  std::string test_time;  // ISO 8601, UTC
  std::vector<uint64_t> samples_ns;
  double kv_bytes_per_token = 0;  // in the long run
  double kv_bits_per_value = 0;
  uint64_t kv_bytes_total = 0;  // in use at the end of the test

  std::vector<double> TokensPerSecond() const;
};

// Mean and standard deviation (n - 1) of samples.
struct MeanAndDeviation {
  double mean = 0, deviation = 0;
};
MeanAndDeviation Summarise(const std::vector<double>& samples);

}  // namespace tq::lab
