// SPDX-License-Identifier: Apache-2.0
#include "turboquant/codec/page_codec.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "turboquant/base/random.h"
#include "turboquant/codec/codebook.h"

namespace tq {
namespace {

std::vector<float> Gaussians(size_t count, uint64_t seed) {
  Random random(seed);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(random.Gaussian());
  return values;
}

struct Distortion {
  double raw = 0;    // ||x - y||^2 / ||x||^2
  double shape = 0;  // 1 - cos^2: what is left after the best gain per vector
};

Distortion Compare(const std::vector<float>& x, const std::vector<float>& y, int dims) {
  double error = 0, energy = 0, shape = 0;
  for (size_t row = 0; row < x.size(); row += static_cast<size_t>(dims)) {
    double xx = 0, yy = 0, xy = 0;
    for (size_t i = row; i < row + static_cast<size_t>(dims); ++i) {
      xx += double{x[i]} * x[i];
      yy += double{y[i]} * y[i];
      xy += double{x[i]} * y[i];
    }
    error += xx + yy - 2 * xy;
    energy += xx;
    shape += 1 - xy * xy / (xx * yy);
  }
  return {-10 * std::log10(error / energy),
          -10 * std::log10(shape / (static_cast<double>(x.size()) / dims))};
}

// The codebooks themselves, sigma known, no norms: what theory says of Lloyd-Max on Gaussian data.
TEST(PageCodec, CodebooksReachLloydMax) {
  const std::vector<float> x = Gaussians(400000, 3);
  const double expected[] = {9.30, 14.62, 20.22};
  for (int bits = 2; bits <= 4; ++bits) {
    const Codebook& book = CodebookOfBits(bits);
    std::vector<float> y(x.size());
    for (size_t i = 0; i < x.size(); ++i) {
      double best = 1e9;
      for (uint32_t code = 0; code < 1u << bits; ++code) {
        const double level = book.DoubledLevel(code) / (2.0 * book.sigma);
        if (std::abs(level - x[i]) < best) {
          best = std::abs(level - x[i]);
          y[i] = static_cast<float>(level);
        }
      }
    }
    EXPECT_NEAR(Compare(x, y, static_cast<int>(x.size())).raw, expected[bits - 2], 0.05);
  }
}

// Gaussian data through an open page: 8 bits, then sealed and norm-matched. The norm per vector
// makes D dimensions D - 1, which is worth 0.1 dB at D = 128 after the best gain; norm matching
// costs 2 bits as much again.
TEST(PageCodec, DistortionOfSealedPages) {
  struct Case {
    Codec codec;
    int head_dim;
    double raw, shape;
  };
  const Case cases[] = {{Codec::kTurbo2, 128, 9.25, 9.38},   {Codec::kTurbo3, 128, 14.70, 14.73},
                        {Codec::kTurbo4, 128, 20.35, 20.36}, {Codec::kTurbo8, 128, 43.76, 43.79},
                        {Codec::kTurbo2, 512, 9.19, 9.32},   {Codec::kTurbo3, 512, 14.60, 14.64},
                        {Codec::kTurbo4, 512, 20.23, 20.23}};
  for (const Case& c : cases) {
    const int dims = c.head_dim;
    const PageLayout open = MakePageLayout(dims, 1, Codec::kTurbo8, Codec::kTurbo8);
    const PageLayout sealed = MakePageLayout(dims, 1, c.codec, c.codec);
    const PageCodec& codecs = GetPageCodec();
    const int rows = 24 * kPageTokens;
    const std::vector<float> x = Gaussians(static_cast<size_t>(rows * dims), 7);
    std::vector<float> y(x.size());
    for (int first = 0; first < rows; first += kPageTokens) {
      std::vector<std::byte> bytes(open.bytes()), small(sealed.bytes());
      const size_t at = static_cast<size_t>(first * dims);
      codecs.EncodeValues(open, bytes.data(), 0, {x.data() + at, kPageTokens, dims});
      codecs.SealValues(open, bytes.data(), sealed, small.data(), {});
      codecs.DecodeValues(sealed, small.data(), 0, {y.data() + at, kPageTokens, dims});
    }
    const Distortion d = Compare(x, y, dims);
    EXPECT_NEAR(d.raw, c.raw, 0.05) << InfoOf(c.codec).name << " " << dims;
    EXPECT_NEAR(d.shape, c.shape, 0.05) << InfoOf(c.codec).name << " " << dims;
  }
}

}  // namespace
}  // namespace tq
