// SPDX-License-Identifier: Apache-2.0
#include "turboquant/codec/transform.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <sstream>
#include <vector>

#include "tools/table_generator.h"
#include "turboquant/base/error.h"
#include "turboquant/base/random.h"
#include "turboquant/codec/codec.h"
#include "turboquant/codec/hadamard.h"

namespace tq {
namespace {

constexpr Side kSides[] = {Side::kKey, Side::kValue};

std::vector<float> Gaussians(size_t count, uint64_t seed) {
  Random random(seed);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(random.Gaussian());
  return values;
}

// Every entry of H has the magnitude 1 / sqrt(D), rows are orthogonal, and each is where Paley and
// Sylvester put it.
TEST(Transform, IsAFlatOrthonormalMatrix) {
  for (int d : kHeadDims) {
    const auto [order, inner] = FactorsOf(d);
    for (Side side : kSides) {
      std::vector<float> columns;  // column j = H e_j
      for (int j = 0; j < d; ++j) {
        std::vector<float> unit(static_cast<size_t>(d));
        unit[static_cast<size_t>(j)] = 1;
        Rotate(unit, side);
        for (int i = 0; i < d; ++i) {
          const int sylvester =
              __builtin_parity(static_cast<unsigned>(i % inner & j % inner)) ? -1 : 1;
          const int sign = RotationSigns(d, side)[static_cast<size_t>(j)] * sylvester *
                           PaleyEntry(order, i / inner, j / inner);
          ASSERT_EQ(unit[static_cast<size_t>(i)],
                    static_cast<float>(sign) * static_cast<float>(1 / std::sqrt(double(d))));
        }
        columns.insert(columns.end(), unit.begin(), unit.end());
      }
      for (int a = 0; a<d; a += d> 256 ? 7 : 1) {
        for (int b = 0; b<d; b += d> 256 ? 5 : 1) {
          double dot = 0;
          for (int i = 0; i < d; ++i)
            dot += double{columns[static_cast<size_t>(a * d + i)]} *
                   columns[static_cast<size_t>(b * d + i)];
          ASSERT_NEAR(dot, a == b ? 1 : 0, 1e-6);
        }
      }
    }
  }
}

TEST(Transform, BackUndoesIt) {
  for (int d : kHeadDims) {
    for (Side side : kSides) {
      const std::vector<float> x = Gaussians(static_cast<size_t>(d), 5);
      std::vector<float> y = x;
      Rotate(y, side);
      RotateBack(y, side);
      double error = 0, energy = 0;
      for (size_t i = 0; i < x.size(); ++i) {
        error += std::pow(double{x[i]} - y[i], 2);
        energy += double{x[i]} * x[i];
      }
      EXPECT_LT(std::sqrt(error / energy), 1e-6) << d;
    }
  }
}

TEST(Transform, SameBitsOnEveryIsaAndRowCount) {
  for (int d : kHeadDims) {
    const int64_t stride = d + 24, count = 7;
    std::vector<float> x = Gaussians(static_cast<size_t>(stride * count), 11);
    x[3] = 1e30f;
    x[static_cast<size_t>(stride) + 1] = 1e-40f;
    for (Side side : kSides) {
      for (auto rotate : {RotateRows, RotateBackRows}) {
        std::vector<float> expected = x;
        rotate(expected.data(), count, stride, d, side, Isa::kScalar);
        for (Isa isa : AvailableIsas()) {
          for (int64_t rows = 0; rows <= count; ++rows) {
            std::vector<float> y = x;
            rotate(y.data(), rows, stride, d, side, isa);
            const size_t done = static_cast<size_t>(rows * stride);
            // Whole rows and the gaps between them; nothing behind the last row.
            ASSERT_EQ(std::memcmp(y.data(), expected.data(), done * 4), 0)
                << IsaName(isa) << " " << d;
            ASSERT_EQ(std::memcmp(y.data() + done, x.data() + done, (x.size() - done) * 4), 0);
          }
        }
      }
    }
  }
}

TEST(Transform, RefusesOtherHeadDims) {
  std::vector<float> x(72);
  EXPECT_THROW(Rotate(x, Side::kKey), Error);
}

TEST(Transform, SignsAreBalancedAndDifferBySide) {
  for (int d : kHeadDims) {
    int differing = 0;
    for (Side side : kSides) {
      int sum = 0;
      for (int8_t sign : RotationSigns(d, side)) sum += sign;
      EXPECT_LT(std::abs(sum), 4 * std::sqrt(d)) << d;
    }
    for (size_t i = 0; i < static_cast<size_t>(d); ++i) {
      differing += RotationSigns(d, Side::kKey)[i] != RotationSigns(d, Side::kValue)[i];
    }
    EXPECT_GT(differing, d / 4);
  }
}

std::string FileText(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

TEST(Tables, CommittedOnesAreWhatTheToolMakes) {
  EXPECT_EQ(FileText(TQ_TABLES "/codebooks.inc"), MakeCodebookTable());
  EXPECT_EQ(FileText(TQ_TABLES "/signs.inc"), MakeSignTable());
}

// Against sums in double; and a row comes out the same whatever stands beside it.
TEST(MapRowsTest, MultipliesRowsOnEveryInstructionSet) {
  for (const Isa isa : AvailableIsas()) {
    for (const int d : kHeadDims) {
      const auto dim = static_cast<size_t>(d);
      const std::vector<float> matrix = Gaussians(dim * dim, 1), x = Gaussians(7 * (dim + 3), 2);
      std::vector<float> mapped = x;
      MapRows(matrix.data(), mapped.data(), 7, d + 3, d, isa);
      for (size_t row = 0; row < 7; ++row) {
        const float* from = &x[row * (dim + 3)];
        for (size_t i = 0; i < dim; ++i) {
          double sum = 0;
          for (size_t j = 0; j < dim; ++j) sum += double{from[j]} * matrix[j * dim + i];
          ASSERT_NEAR(mapped[row * (dim + 3) + i], sum, 1e-4 * std::sqrt(d)) << IsaName(isa);
        }
        std::vector<float> alone(from, from + dim);
        MapRows(matrix.data(), alone.data(), 1, 0, d, isa);
        ASSERT_EQ(std::memcmp(alone.data(), &mapped[row * (dim + 3)], dim * sizeof(float)), 0);
      }
      for (size_t gap = 0; gap < 3; ++gap) ASSERT_EQ(mapped[dim + gap], x[dim + gap]);
    }
  }
}

}  // namespace
}  // namespace tq
