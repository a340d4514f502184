// SPDX-License-Identifier: Apache-2.0
// Recommendations on made-up models: what each place loses is known, and so is what a policy loses.
#include "lab/recommend.h"

#include <gmock/gmock.h>

#include "lab/codec_noise.h"
#include "turboquant/base/error.h"

namespace tq::lab {
namespace {

constexpr int kLayers = 6;

RecommendRequest Request() {
  RecommendRequest request;
  request.geometry = {kLayers, 2, 64, std::vector<int>(kLayers, 0)};
  request.context = 32768;
  return request;
}

// Layer l's keys lose (l + 1) units, its values a fifth of that.
double Loss(int layer, Side side) { return 1e-4 * (layer + 1) * (side == Side::kKey ? 1 : 0.2); }

struct FakeModel {
  double interaction = 1;  // of several compressed places: a policy loses more than the sum
  int runs = 0;

  // From an f16 cache, or from one of kElsewhere.
  Estimate operator()(const CachePolicy& policy, Codec reference = Codec::kF16) {
    ++runs;
    const double unit = CodecNoise(Codec::kTurbo3, 64);
    double sum = 0;
    int places = 0;
    for (int layer = 0; layer < kLayers; ++layer) {
      for (const Side side : {Side::kKey, Side::kValue}) {
        const Codec codec = (side == Side::kKey ? policy.k : policy.v)[static_cast<size_t>(layer)];
        if (codec == reference) continue;
        ++places;
        sum += Loss(layer, side) * CodecNoise(codec, 64) / unit;
      }
    }
    const double value = places > 1 ? sum * interaction : sum;
    return {value, 0.1 * value};
  }
};

RecommendResult RecommendFor(const RecommendRequest& request, FakeModel& model) {
  return Recommend(request,
                   {.place = [&](const CachePolicy& policy) { return model(policy, kElsewhere); },
                    .policy = [&](const CachePolicy& policy) { return model(policy); }});
}

uint64_t BytesOf(const RecommendRequest& request, Codec codec) {
  CachePolicy policy = request.shape;
  policy.k.assign(kLayers, codec);
  policy.v = policy.k;
  return KvCache::BytesForContext(request.geometry, policy, request.context);
}

double BitsOf(Codec codec) { return BitsPerValue(codec, 64); }

TEST(CodecNoiseTest, FewerBitsAreNoisierAndScalarCodesAreWhatTheyAreKnownToBe) {
  EXPECT_NEAR(CodecDb(Codec::kTurbo4, 128), 20.2, 0.2);
  EXPECT_NEAR(CodecDb(Codec::kTurbo3, 128), 14.6, 0.2);
  EXPECT_NEAR(CodecDb(Codec::kTurbo2, 128), 9.3, 0.2);
  EXPECT_GT(CodecDb(Codec::kTurbo8, 128), 38);
}

TEST(RecommendTest, WithinTheMemoryTheSensitiveGetMore) {
  RecommendRequest request = Request();
  request.max_bytes = BytesOf(request, Codec::kTurbo3);
  FakeModel model;
  const RecommendResult result = RecommendFor(request, model);
  EXPECT_EQ(result.bytes,
            KvCache::BytesForContext(request.geometry, result.policy, request.context));
  EXPECT_LE(result.bytes, request.max_bytes);
  EXPECT_GT(result.bytes, 0.9 * static_cast<double>(request.max_bytes));  // and they are used
  EXPECT_EQ(result.runs, model.runs);
  EXPECT_EQ(result.runs, 2 * kLayers + 1);
  EXPECT_GT(BitsOf(result.policy.k.back()), BitsOf(result.policy.v.front()));
  for (int layer = 0; layer < kLayers; ++layer) {
    EXPECT_GE(BitsOf(result.policy.k[static_cast<size_t>(layer)]),
              BitsOf(result.policy.v[static_cast<size_t>(layer)]));
  }
  CachePolicy uniform = request.shape;
  uniform.k.assign(kLayers, Codec::kTurbo3);
  uniform.v = uniform.k;
  EXPECT_LT(result.measured.value, FakeModel()(uniform).value);
  ASSERT_EQ(result.places.size(), 2u * kLayers);
  CachePolicy one = UniformPolicy(request.geometry, request.shape, kElsewhere);
  one.k[2] = result.probe;
  EXPECT_DOUBLE_EQ(result.places[4].sensitivity, FakeModel()(one, kElsewhere).value);
}

TEST(RecommendTest, SmallestThatStaysBelowADivergence) {
  RecommendRequest request = Request();
  double bytes_before = 1e300;
  for (const double limit : {0.0005, 0.002, 0.008}) {
    SCOPED_TRACE(limit);
    request.max_divergence = limit;
    for (const double interaction : {1.0, 1.5, 0.5}) {  // what single measurements cannot know
      SCOPED_TRACE(interaction);
      FakeModel model{interaction};
      const RecommendResult result = RecommendFor(request, model);
      EXPECT_TRUE(result.within_divergence);
      EXPECT_LE(result.upper, limit);
      EXPECT_DOUBLE_EQ(result.upper, UpperLimit(result.measured));
      if (result.bytes > BytesOf(request, Codec::kTurbo2)) {  // else nothing is smaller
        EXPECT_GT(result.upper, 0.5 * limit);                 // not wasteful
      }
      EXPECT_LE(result.runs + 2, MostRuns(request));
      if (interaction != 1) continue;
      EXPECT_LT(static_cast<double>(result.bytes), bytes_before);
      bytes_before = static_cast<double>(result.bytes);
    }
  }
}

TEST(RecommendTest, BothLimitsThatCannotHoldTogetherSayWhatWould) {
  RecommendRequest request = Request();
  request.max_bytes = BytesOf(request, Codec::kTurbo3);
  request.max_divergence = 0.0005;
  FakeModel model;
  const RecommendResult result = RecommendFor(request, model);
  EXPECT_FALSE(result.within_divergence);
  EXPECT_LE(result.bytes, request.max_bytes);
  EXPECT_GT(result.bytes_needed, request.max_bytes);
  request.max_bytes = result.bytes_needed * 11 / 10;  // it says "about"
  EXPECT_TRUE(RecommendFor(request, model).within_divergence);
}

TEST(RecommendTest, ADivergenceThatNothingReaches) {
  RecommendRequest request = Request();
  request.max_divergence = 1e-9;
  FakeModel model;
  const RecommendResult result = RecommendFor(request, model);
  EXPECT_FALSE(result.within_divergence);
  EXPECT_EQ(result.bytes_needed, 0u);
}

TEST(RecommendTest, MemoryThatNothingFitsIsRefusedBeforeAnyRun) {
  RecommendRequest request = Request();
  request.max_bytes = 1 << 20;
  FakeModel model;
  try {
    RecommendFor(request, model);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kOutOfMemory);
    EXPECT_THAT(error.what(),
                testing::AllOf(testing::HasSubstr("turbo2"), testing::HasSubstr("32768 tokens")));
  }
  EXPECT_EQ(model.runs, 0);
}

TEST(RecommendTest, LayersThatNeverCompressTakeNoRuns) {
  RecommendRequest request = Request();
  request.geometry.sliding_window = {512, 0, 512, 512, 2048, 0};
  request.max_divergence = 0.01;
  FakeModel model;
  const RecommendResult result = RecommendFor(request, model);
  EXPECT_EQ(MostRuns(request), 2 * 3 + 4);
  EXPECT_LE(model.runs + 2, MostRuns(request));
  EXPECT_EQ(result.places.size(), 2u * kLayers);
  EXPECT_EQ(result.places[0].sensitivity, 0);
  EXPECT_GT(result.places[2].sensitivity, 0);
}

TEST(RecommendTest, AContextWithoutSealedPagesKeepsEightBits) {
  RecommendRequest request = Request();
  request.context = 256;
  request.max_bytes = uint64_t{1} << 30;
  FakeModel model;
  const RecommendResult result = RecommendFor(request, model);
  EXPECT_THAT(result.policy.k, testing::Each(Codec::kTurbo8));
}

}  // namespace
}  // namespace tq::lab
