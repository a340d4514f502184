// SPDX-License-Identifier: Apache-2.0
#include "lab/bench_result.h"

#include <fmt/format.h>

#include <cmath>

namespace tq::lab {

std::string BenchCase::Name() const {
  std::string name;
  if (n_prompt > 0) name = fmt::format("pp{}", n_prompt);
  if (n_gen > 0) name += fmt::format("{}tg{}", name.empty() ? "" : "+", n_gen);
  if (n_depth > 0) name += fmt::format(" @ d{}", n_depth);
  return name;
}

std::vector<double> BenchResult::TokensPerSecond() const {
  std::vector<double> rates;
  for (const uint64_t ns : samples_ns)
    rates.push_back(1e9 * (test.n_prompt + test.n_gen) / static_cast<double>(ns));
  return rates;
}

MeanAndDeviation Summarise(const std::vector<double>& samples) {
  MeanAndDeviation result;
  if (samples.empty()) return result;
  for (const double x : samples) result.mean += x / static_cast<double>(samples.size());
  if (samples.size() < 2) return result;
  double squares = 0;
  for (const double x : samples) squares += (x - result.mean) * (x - result.mean);
  result.deviation = std::sqrt(squares / static_cast<double>(samples.size() - 1));
  return result;
}

}  // namespace tq::lab
