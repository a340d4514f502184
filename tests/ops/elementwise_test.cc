// SPDX-License-Identifier: Apache-2.0
// Elementwise operations against the same formulas in double, on every instruction set of the
// machine.
#include "turboquant/ops/elementwise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "turboquant/base/random.h"

namespace tq {
namespace {

class ElementwiseTest : public ::testing::TestWithParam<Isa> {
 protected:
  std::vector<float> Gaussian(size_t n, double scale = 1) {
    std::vector<float> x(n);
    for (float& v : x) v = static_cast<float>(random_.Gaussian() * scale);
    return x;
  }
  Random random_{7};
  ThreadPool pool_{2};
};

TEST_P(ElementwiseTest, RmsNorm) {
  for (const int n : {1, 7, 16, 33, 64, 576, 1536, 2049}) {
    for (const int rows : {1, 3, 70}) {
      const int stride = n + 5;
      const std::vector<float> x = Gaussian(static_cast<size_t>(rows) * stride, 3);
      const std::vector<float> weight = Gaussian(n);
      std::vector<float> out(static_cast<size_t>(rows) * n, -1);
      RmsNorm({x.data(), rows, n, stride}, weight.data(), 1e-5f, {out.data(), rows, n}, pool_,
              GetParam());
      for (int t = 0; t < rows; ++t) {
        double sum = 0;
        for (int i = 0; i < n; ++i)
          sum += static_cast<double>(x[t * stride + i]) * x[t * stride + i];
        const double rms = std::sqrt(sum / n + 1e-5);
        for (int i = 0; i < n; ++i) {
          const double expected = x[t * stride + i] / rms * weight[i];
          ASSERT_NEAR(out[t * n + i], expected, 2e-6 * (std::abs(expected) + 1))
              << n << " " << t << " " << i;
        }
      }
    }
  }
}

TEST_P(ElementwiseTest, RmsNormInPlace) {
  std::vector<float> x = Gaussian(100);
  std::vector<float> expected(100);
  const std::vector<float> weight = Gaussian(100);
  RmsNorm({x.data(), 1, 100}, weight.data(), 1e-6f, {expected.data(), 1, 100}, pool_, GetParam());
  RmsNorm({x.data(), 1, 100}, weight.data(), 1e-6f, {x.data(), 1, 100}, pool_, GetParam());
  EXPECT_EQ(x, expected);
}

TEST_P(ElementwiseTest, Add) {
  for (const int n : {5, 64, 577}) {
    std::vector<float> x = Gaussian(3 * n);
    const std::vector<float> before = x, y = Gaussian(3 * n);
    AddInPlace({x.data(), 3, n}, {y.data(), 3, n}, pool_, GetParam());
    for (int i = 0; i < 3 * n; ++i) ASSERT_EQ(x[i], before[i] + y[i]);
  }
}

TEST_P(ElementwiseTest, GatedActivation) {
  const int n = 3001;
  std::vector<float> gate(n), up(n, 1.0f), out(n);
  for (int i = 0; i < n; ++i) gate[i] = static_cast<float>(i - 1500) * 0.02f;  // -30 .. 30
  GatedActivation(Activation::kSilu, {gate.data(), 1, n}, {up.data(), 1, n}, {out.data(), 1, n},
                  pool_, GetParam());
  for (int i = 0; i < n; ++i) {
    const double x = gate[i], expected = x / (1 + std::exp(-x));
    ASSERT_NEAR(out[i], expected, 4e-7 * std::abs(expected) + 1e-12) << x;
  }
  GatedActivation(Activation::kGeluTanh, {gate.data(), 1, n}, {up.data(), 1, n}, {out.data(), 1, n},
                  pool_, GetParam());
  for (int i = 0; i < n; ++i) {
    const double x = gate[i];
    const double expected =
        0.5 * x *
        (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    ASSERT_NEAR(out[i], expected, 2e-6 * std::abs(expected) + 1e-7) << x;
  }
}

TEST_P(ElementwiseTest, GatedActivationAtTheEnds) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> gate = {1e4f, -1e4f, 1e30f, -1e30f, 0.0f, nan, 200.0f}, up(7, 2.0f), out(7);
  GatedActivation(Activation::kSilu, {gate.data(), 1, 7}, {up.data(), 1, 7}, {out.data(), 1, 7},
                  pool_, GetParam());
  EXPECT_FLOAT_EQ(out[0], 2e4f);
  EXPECT_NEAR(out[1], 0, 1e-30);
  EXPECT_FLOAT_EQ(out[2], 2e30f);
  EXPECT_EQ(out[4], 0);
  EXPECT_TRUE(std::isnan(out[5]));
  EXPECT_FLOAT_EQ(out[6], 400.0f);
}

TEST_P(ElementwiseTest, RopeAgainstDoubleUpToAMillion) {
  for (const RopeStyle style : {RopeStyle::kInterleaved, RopeStyle::kHalves}) {
    for (const auto& [head_dim, rotary] :
         {std::pair{64, 64}, {128, 128}, {80, 80}, {128, 32}, {256, 256}, {20, 10}}) {
      RopeTable table;
      table.style = style;
      table.rotary_dim = rotary;
      table.magnitude = 1.25f;
      for (int i = 0; i < rotary / 2; ++i)
        table.frequencies.push_back(std::pow(1e4, -2.0 * i / rotary));
      const std::vector<int32_t> positions = {0, 1, 4097, 131071, 1000003};
      const int heads = 3, rows = static_cast<int>(positions.size()), stride = heads * head_dim + 8;
      std::vector<float> x = Gaussian(static_cast<size_t>(rows) * stride);
      const std::vector<float> before = x;
      RopeAngles angles;
      angles.Set(table, positions, pool_);
      Rope({x.data(), rows, heads * head_dim, stride}, heads, head_dim, angles, pool_, GetParam());
      for (int t = 0; t < rows; ++t) {
        for (int h = 0; h < heads; ++h) {
          const float* b = before.data() + t * stride + h * head_dim;
          const float* a = x.data() + t * stride + h * head_dim;
          for (int i = 0; i < rotary / 2; ++i) {
            const int p = style == RopeStyle::kHalves ? i : 2 * i;
            const int q = style == RopeStyle::kHalves ? i + rotary / 2 : 2 * i + 1;
            const long double angle = static_cast<long double>(positions[t]) * table.frequencies[i];
            const double c = 1.25 * std::cos(angle), s = 1.25 * std::sin(angle);
            ASSERT_NEAR(a[p], b[p] * c - b[q] * s, 2e-6);
            ASSERT_NEAR(a[q], b[q] * c + b[p] * s, 2e-6);
          }
          for (int i = rotary; i < head_dim; ++i) ASSERT_EQ(a[i], b[i]);
        }
      }
    }
  }
}

TEST_P(ElementwiseTest, RopeAnglesFollowPositionsAndTable) {
  RopeTable table{RopeStyle::kHalves, 4, {1.0, 0.1}, 1.0f};
  RopeAngles angles;
  angles.Set(table, std::vector<int32_t>{3}, pool_);
  EXPECT_FLOAT_EQ(angles.row(0)[0], std::cos(3.0f));
  angles.Set(table, std::vector<int32_t>{4, 5}, pool_);
  EXPECT_FLOAT_EQ(angles.row(1)[1], std::cos(0.5f));
  table.frequencies = {0.5, 0.25};
  angles.Set(table, std::vector<int32_t>{4, 5}, pool_);
  EXPECT_FLOAT_EQ(angles.row(1)[0], std::cos(2.5f));
}

INSTANTIATE_TEST_SUITE_P(AllIsas, ElementwiseTest, ::testing::ValuesIn(AvailableIsas()),
                         [](const auto& info) { return std::string(IsaName(info.param)); });

}  // namespace
}  // namespace tq
