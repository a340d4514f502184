// SPDX-License-Identifier: Apache-2.0
// How often something is done in a second, several times over.
#pragma once

#include <chrono>
#include <vector>

namespace tq::lab {

// Millions of units of work per second: one figure per repetition, each over `rounds` calls of
// round(), which does `work` units. One call goes before them.
template <typename Fn>
std::vector<double> SampleRates(int repetitions, int rounds, double work, Fn&& round) {
  round();
  std::vector<double> samples;
  for (int i = 0; i < repetitions; ++i) {
    const auto start = std::chrono::steady_clock::now();
    for (int r = 0; r < rounds; ++r) round();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    samples.push_back(rounds * work / taken.count() / 1e6);
  }
  return samples;
}

}  // namespace tq::lab
