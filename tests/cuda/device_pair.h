// SPDX-License-Identifier: Apache-2.0
// Both backends side by side: the CPU is the oracle of the GPU. Tests skip themselves where there
// is no GPU.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "turboquant/backend/backend.h"
#include "turboquant/base/random.h"

namespace tq::test {

inline Backend& Cpu() {
  static const std::unique_ptr<Backend> backend = MakeBackend({.device = "cpu"});
  return *backend;
}

// Null, and why, if there is none.
inline Backend* Gpu(std::string* why = nullptr) {
  static std::string reason;
  static const std::unique_ptr<Backend> backend = [] {
    try {
      return MakeBackend({.device = "cuda"});
    } catch (const Error& error) {
      reason = error.what();
      return std::unique_ptr<Backend>();
    }
  }();
  if (why != nullptr) *why = reason;
  return backend.get();
}

class DeviceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string why;
    if (Gpu(&why) == nullptr) GTEST_SKIP() << why;
  }
};

inline std::vector<float> Gaussian(int64_t count, uint64_t seed, double sigma = 1) {
  Random random(seed);
  std::vector<float> x(static_cast<size_t>(count));
  for (float& value : x) value = static_cast<float>(random.Gaussian() * sigma);
  return x;
}

// A matrix on a backend.
class OnDevice {
 public:
  OnDevice(Backend& backend, const std::vector<float>& host, int64_t rows, int64_t cols)
      : backend_(backend), buffer_(backend.Allocate(host.size())), rows_(rows), cols_(cols) {
    backend.Write(host.data(), buffer_->data(), host.size());
  }
  OnDevice(Backend& backend, int64_t rows, int64_t cols)  // NaN: what is not written shows
      : OnDevice(backend, std::vector<float>(static_cast<size_t>(rows * cols), NAN), rows, cols) {}
  MatrixView<float> view() { return {buffer_->data(), rows_, cols_}; }
  float* data() { return buffer_->data(); }
  std::vector<float> Host() {
    std::vector<float> host(static_cast<size_t>(rows_ * cols_));
    backend_.Read(buffer_->data(), host.data(), host.size());
    return host;
  }

 private:
  Backend& backend_;
  std::unique_ptr<Buffer> buffer_;
  int64_t rows_, cols_;
};

// |a - b| / |b|; NaN if anything is not a number.
inline double Difference(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return NAN;
  double error = 0, norm = 1e-300;
  for (size_t i = 0; i < a.size(); ++i) {
    const double e = static_cast<double>(a[i]) - b[i];
    error += e * e;
    norm += static_cast<double>(b[i]) * b[i];
  }
  return std::sqrt(error / norm);
}

// Fails with the first place that differs most.
inline void ExpectClose(const std::vector<float>& got, const std::vector<float>& want, double most,
                        int64_t cols, const std::string& what) {
  const double difference = Difference(got, want);
  if (difference <= most) return;
  ASSERT_EQ(got.size(), want.size()) << what;
  size_t worst = 0, wrong = 0;
  double largest = -1;
  for (size_t i = 0; i < got.size(); ++i) {
    const double e = std::abs(static_cast<double>(got[i]) - want[i]);
    if (!(e <= 1e-6 + most * std::abs(want[i]))) ++wrong;
    if (!(e <= largest)) largest = e, worst = i;
    if (std::isnan(e)) break;
  }
  const auto row = static_cast<int64_t>(worst) / cols, col = static_cast<int64_t>(worst) % cols;
  ADD_FAILURE() << what << ": relative difference " << difference << ", at most " << most
                << " is allowed; worst at row " << row << ", column " << col << ": " << got[worst]
                << " instead of " << want[worst] << "; " << wrong << " of " << got.size()
                << " values are off (up to there)";
}

}  // namespace tq::test
