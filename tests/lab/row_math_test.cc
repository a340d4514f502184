// SPDX-License-Identifier: Apache-2.0
// Row loops against double arithmetic, and equal bits on every instruction set.
#include "lab/row_math.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "turboquant/base/random.h"

namespace tq::lab {
namespace {

constexpr float kNoCutoff = -std::numeric_limits<float>::infinity();

std::vector<float> Logits(int n, uint64_t seed, double spread = 4) {
  Random random(seed);
  std::vector<float> row(static_cast<size_t>(n));
  for (float& x : row) x = static_cast<float>(spread * random.Gaussian() - 3);
  return row;
}

double LogSumExp(const std::vector<float>& row) {
  double max = row[0], sum = 0;
  for (const float x : row) max = std::max<double>(max, x);
  for (const float x : row) sum += std::exp(x - max);
  return max + std::log(sum);
}

class RowMathTest : public testing::TestWithParam<Isa> {
 protected:
  const RowMath& math_ = GetRowMath(GetParam());
};

TEST_P(RowMathTest, SoftmaxMatchesDouble) {
  for (const int n : {1, 15, 16, 17, 1000, 49152}) {
    const auto row = Logits(n, static_cast<uint64_t>(n));
    const SoftmaxStats stats = math_.softmax(row.data(), n);
    EXPECT_NEAR(stats.max + stats.log_sum_exp, LogSumExp(row), 1e-6) << n;
    EXPECT_EQ(stats.argmax, std::max_element(row.begin(), row.end()) - row.begin());
  }
}

TEST_P(RowMathTest, FarBelowTheMaximumNothingIsAdded) {
  const std::vector<float> row = {0.0f, -200.0f, -1e30f, -std::numeric_limits<float>::infinity()};
  EXPECT_NEAR(math_.softmax(row.data(), 4).log_sum_exp, 0, 1e-12);
}

TEST_P(RowMathTest, NanIsNotHidden) {
  auto row = Logits(100, 1);
  row[37] = std::nanf("");
  EXPECT_TRUE(std::isnan(math_.softmax(row.data(), 100).log_sum_exp));
}

TEST_P(RowMathTest, DivergenceMatchesDouble) {
  const int n = 5003;
  const auto p = Logits(n, 1);
  auto q = p;
  Random random(9);
  for (float& x : q) x += static_cast<float>(0.1 * random.Gaussian());
  const double lse_p = LogSumExp(p), lse_q = LogSumExp(q);
  double expected = 0, expected_cut = 0;
  for (int i = 0; i < n; ++i) {
    const double log_p = p[static_cast<size_t>(i)] - lse_p,
                 log_q = q[static_cast<size_t>(i)] - lse_q;
    expected += std::exp(log_p) * (log_p - log_q);
    if (log_p > -9) expected_cut += std::exp(log_p) * (log_p - log_q);
  }
  const auto offset_p = static_cast<float>(lse_p), offset_q = static_cast<float>(lse_q);
  EXPECT_NEAR(math_.divergence(p.data(), offset_p, q.data(), offset_q, n, kNoCutoff), expected,
              2e-6);
  EXPECT_NEAR(math_.divergence(p.data(), offset_p, q.data(), offset_q, n, -9.0f), expected_cut,
              2e-6);
  EXPECT_NEAR(math_.divergence(p.data(), offset_p, p.data(), offset_p, n, kNoCutoff), 0, 1e-12);
}

TEST_P(RowMathTest, CodesComeBackWithinHalfAStep) {
  const int n = 1001;
  const auto row = Logits(n, 3);
  const float low = -5.0f, scale = 16.0f / 65535.0f;
  std::vector<uint16_t> codes(n);
  std::vector<float> back(n);
  math_.encode(row.data(), low, scale, n, codes.data());
  math_.decode(codes.data(), scale, low, n, back.data());
  for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
    EXPECT_NEAR(back[i], std::min(std::max(row[i], low), low + 16.0f), 0.51f * scale);
  }
  math_.encode(row.data(), low, 0.0f, n, codes.data());
  EXPECT_EQ(codes, std::vector<uint16_t>(n, 0));
}

TEST_P(RowMathTest, SameBitsAsScalar) {
  const RowMath& scalar = GetRowMath(Isa::kScalar);
  const int n = 3001;
  const auto p = Logits(n, 5), q = Logits(n, 6);
  EXPECT_EQ(math_.softmax(p.data(), n).log_sum_exp, scalar.softmax(p.data(), n).log_sum_exp);
  EXPECT_EQ(math_.divergence(p.data(), 9.5f, q.data(), 9.25f, n, -16.0f),
            scalar.divergence(p.data(), 9.5f, q.data(), 9.25f, n, -16.0f));
}

INSTANTIATE_TEST_SUITE_P(Isas, RowMathTest, testing::ValuesIn(AvailableIsas()),
                         [](const auto& info) { return std::string(IsaName(info.param)); });

}  // namespace
}  // namespace tq::lab
