// SPDX-License-Identifier: Apache-2.0
#include "lab/codec_round_trip.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "lab/codec_noise.h"
#include "turboquant/base/error.h"
#include "turboquant/base/random.h"

namespace tq::lab {
namespace {

// Gaussian vectors, each dim with a bias of its own that all vectors share.
struct Vectors {
  Vectors(int64_t count, int64_t dims, double bias)
      : floats(static_cast<size_t>(count * dims)),
        decoded(floats.size()),
        count(count),
        dims(dims) {
    Random random(7);
    std::vector<double> shared(static_cast<size_t>(dims));
    for (double& x : shared) x = bias * random.Gaussian();
    for (size_t i = 0; i < floats.size(); ++i) {
      floats[i] = static_cast<float>(shared[i % static_cast<size_t>(dims)] + random.Gaussian());
    }
  }
  RoundTripSums Pass(Codec codec, Side side) {
    return RoundTrip(codec, side, {floats.data(), count, dims}, {decoded.data(), count, dims});
  }
  std::vector<float> floats, decoded;
  int64_t count, dims;
};

TEST(CodecRoundTripTest, NoiseIsTheCodecs) {
  for (const CodecInfo& info : kCodecs) {
    for (const int dims : {64, 128}) {
      for (const Side side : {Side::kKey, Side::kValue}) {
        SCOPED_TRACE(testing::Message() << info.name << " " << dims);
        Vectors vectors(300, dims, 0);  // two pages and a part of one
        const RoundTripSums sums = vectors.Pass(info.codec, side);
        EXPECT_EQ(sums.vectors, 300);
        if (info.codec == Codec::kF32) {
          EXPECT_EQ(vectors.decoded, vectors.floats);
          EXPECT_TRUE(std::isinf(sums.Db()));
          continue;
        }
        // Of a trellis keys and values are searched for differently.
        EXPECT_NEAR(sums.Db(), CodecDb(info.codec, dims), 0.35);
        // The angle follows from the noise: cos^2 = 1 - n for what is nearest, more or less.
        const double noise = std::pow(10, -sums.Db() / 10);
        EXPECT_NEAR(1 - sums.Cosine(), noise / 2, 0.1 * noise);
        EXPECT_GT(sums.encode_seconds, 0);
        EXPECT_GT(sums.decode_seconds, 0);
      }
    }
  }
}

TEST(CodecRoundTripTest, KeysLoseTheirBiasAndValuesKeepIt) {
  Vectors vectors(256, 128, 10);
  const double keys = vectors.Pass(Codec::kTurbo3, Side::kKey).Db(),
               values = vectors.Pass(Codec::kTurbo3, Side::kValue).Db();
  EXPECT_NEAR(values, 14.7, 1);       // noise in proportion to all of it
  EXPECT_NEAR(keys, 14.7 + 20, 1.0);  // to a hundredth of the energy
}

TEST(CodecRoundTripTest, BitsCountScalesAndReferences) {
  EXPECT_DOUBLE_EQ(StoredBitsPerValue(Codec::kTurbo3, Side::kValue, 128), 3.125);
  EXPECT_DOUBLE_EQ(StoredBitsPerValue(Codec::kTurbo3, Side::kKey, 128), 3.25);
  EXPECT_DOUBLE_EQ(StoredBitsPerValue(Codec::kQ8_0, Side::kKey, 128), 8.5);
}

TEST(CodecRoundTripTest, HeadsOfOtherDimsAreRefused) {
  Vectors vectors(10, 100, 0);
  EXPECT_THROW(vectors.Pass(Codec::kTurbo3, Side::kValue), Error);
  EXPECT_THROW(vectors.Pass(Codec::kQ8_0, Side::kValue), Error);
  EXPECT_GT(vectors.Pass(Codec::kF16, Side::kValue).Db(), 60);
}

TEST(CodecRoundTripTest, ZeroVectorsHaveNoAngle) {
  Vectors vectors(130, 64, 0);
  std::fill_n(vectors.floats.begin(), 64 * 5, 0.0f);
  const RoundTripSums sums = vectors.Pass(Codec::kTurbo4Tcq, Side::kValue);
  EXPECT_EQ(sums.vectors - sums.nonzero, 5);
  EXPECT_GT(sums.Cosine(), 0.99);
}

}  // namespace
}  // namespace tq::lab
