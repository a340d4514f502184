// SPDX-License-Identifier: Apache-2.0
// A small deterministic generator (SplitMix64), the same stream on every machine: sampling, tests,
// table tools.
#pragma once

#include <cmath>
#include <cstdint>

namespace tq {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  // Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
  uint64_t Next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }

  double Uniform() { return static_cast<double>(Next() >> 11) * 0x1p-53; }  // [0, 1)

  double Gaussian() {  // Box-Muller
    const double u = 1.0 - Uniform();
    const double v = Uniform();
    return std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586 * v);
  }

  uint64_t state() const { return state_; }  // to save and restore a stream
  void set_state(uint64_t state) { state_ = state; }

 private:
  uint64_t state_;
};

}  // namespace tq
