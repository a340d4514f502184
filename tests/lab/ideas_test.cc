// SPDX-License-Identifier: Apache-2.0
// Ideas of others: each does what its name says, and is refused where it says nothing.
#include "lab/simulation/ideas.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <numbers>
#include <numeric>

#include "lab/simulation/alpha.h"
#include "lab/simulation/apply_ideas.h"
#include "lab/simulation/channel_statistics.h"
#include "lab/simulation/mse_scale.h"
#include "lab/simulation/query_subspace.h"
#include "lab/simulation/sign_residual.h"
#include "lab/simulation/simulated_attention.h"
#include "turboquant/base/random.h"
#include "turboquant/engine/linear_algebra.h"

namespace tq::lab {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using Rows = std::vector<float>;

constexpr int kDims = 64;
constexpr int kRows = 128;

// [rows][kDims], channel d of deviation spread(d).
Rows Gaussian(
    int rows, uint64_t seed, const std::function<double(int)>& spread = [](int) { return 1.0; }) {
  Random random(seed);
  Rows x(static_cast<size_t>(rows * kDims));
  for (size_t i = 0; i < x.size(); ++i)
    x[i] = static_cast<float>(random.Gaussian() * spread(static_cast<int>(i % kDims)));
  return x;
}

Rows Through(const FakeSide& side, Rows x, const FakeStatistics& statistics = {}) {
  ApplyFakeSide(side, Side::kKey, 0, statistics, {x.data(), kRows, kDims});
  return x;
}
Rows Through(const FakeCodec& codec, Rows x) {
  codec({x.data(), kRows, kDims});
  return x;
}

double Dot(const Rows& a, const Rows& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}
Rows Minus(const Rows& a, const Rows& b) {
  Rows c(a.size());
  for (size_t i = 0; i < a.size(); ++i) c[i] = a[i] - b[i];
  return c;
}
double RelativeSquare(const Rows& error, const Rows& x) { return Dot(error, error) / Dot(x, x); }

TEST(IdeasTest, AreNamedWithTheirNumbers) {
  Ideas ideas;
  EXPECT_TRUE(ideas.empty());
  ideas.Add(Idea::kAlpha, 1.04);
  ideas.Add(Idea::kQjl);
  ideas.Add(Idea::kSparseV, 1e-6);
  EXPECT_EQ(ideas.Name(), " +qjl +alpha=1.04 +sparse-v=1e-06");
  EXPECT_FALSE(ideas.Has(Idea::kVectorMean));
  for (const IdeaInfo& info : kIdeas) EXPECT_EQ(FindIdea(info.name), &info);
  EXPECT_EQ(FindIdea("qjll"), nullptr);
  const IdeaInfo &alpha = *FindIdea("alpha"), &sparse = *FindIdea("sparse-v");
  EXPECT_TRUE(alpha.Allows(4) && !alpha.Allows(4.01) && !alpha.Allows(0) && !alpha.Allows(NAN));
  EXPECT_TRUE(sparse.Allows(0) && !sparse.Allows(-1e-9));
  EXPECT_EQ(alpha.Range(), "in (0, 4]");
  EXPECT_EQ(sparse.Range(), "in [0, 1]");
}

std::string Refusal(Idea idea, Codec k, Codec v) {
  Ideas ideas;
  ideas.Add(idea, 1);
  CachePolicy policy;
  policy.k = {k, Codec::kF16};
  policy.v = {v, Codec::kF16};
  return WhyNot(ideas, policy);
}

TEST(IdeasTest, AreRefusedWhereTheyMakeNoSense) {
  for (const IdeaInfo& info : kIdeas)
    EXPECT_THAT(Refusal(info.idea, Codec::kTurbo3, Codec::kTurbo3), IsEmpty()) << info.name;
  EXPECT_THAT(Refusal(Idea::kQjl, Codec::kTurbo3Tcq, Codec::kTurbo3), HasSubstr("+qjl: keys must"));
  EXPECT_THAT(Refusal(Idea::kQjl, Codec::kTurbo2, Codec::kTurbo3), HasSubstr("no bit to spare"));
  EXPECT_THAT(Refusal(Idea::kQjl, Codec::kF16, Codec::kTurbo3), HasSubstr("keys must"));
  EXPECT_THAT(Refusal(Idea::kNoRotation, Codec::kQ8_0, Codec::kF16), HasSubstr("rotated"));
  EXPECT_THAT(Refusal(Idea::kVectorMean, Codec::kQ8_0, Codec::kF16), HasSubstr("transformed"));
  EXPECT_THAT(Refusal(Idea::kChannelScale, Codec::kF16, Codec::kTurbo3), HasSubstr("keys"));
  EXPECT_THAT(Refusal(Idea::kMseScale, Codec::kTurbo8, Codec::kQ4_0), HasSubstr("scales"));
  EXPECT_THAT(Refusal(Idea::kEncodeAlpha, Codec::kTurbo3, Codec::kF16), HasSubstr("values"));
  EXPECT_THAT(Refusal(Idea::kContextAlpha, Codec::kTurbo3, Codec::kTurbo4), HasSubstr("fitted"));
  EXPECT_THAT(Refusal(Idea::kAlpha, Codec::kF32, Codec::kF32), IsEmpty());
  EXPECT_THAT(Refusal(Idea::kSubspace, Codec::kTurbo3Tcq, Codec::kTurbo3), HasSubstr("trellis"));
  EXPECT_THAT(Refusal(Idea::kSubspace, Codec::kF16, Codec::kTurbo3), HasSubstr("keys must"));
  Ideas both;
  both.Add(Idea::kAlpha, 1);
  both.Add(Idea::kContextAlpha);
  CachePolicy policy;
  policy.k = policy.v = {Codec::kTurbo3};
  EXPECT_THAT(WhyNot(both, policy), HasSubstr("give one"));
}

TEST(QuerySubspaceTest, ErrorsAvoidWhatQueriesSee) {
  // Queries of eight directions across the channels, and a little of everything.
  const Rows directions = Gaussian(8, 21), parts = Gaussian(kRows, 22), rest = Gaussian(kRows, 23),
             x = Gaussian(kRows, 24);
  std::vector<double> moment(kDims * kDims);
  for (int r = 0; r < kRows; ++r) {
    Rows q(kDims);
    for (size_t d = 0; d < kDims; ++d) {
      q[d] = 0.1f * rest[static_cast<size_t>(r) * kDims + d];
      for (size_t i = 0; i < 8; ++i)
        q[d] += parts[static_cast<size_t>(r) * kDims + i] * directions[i * kDims + d];
    }
    AddMoment({q.data(), 1, kDims}, nullptr, moment);
  }
  const QuerySubspace subspace(moment, kDims, 8);
  for (const Codec codec : {Codec::kTurbo2, Codec::kTurbo3, Codec::kTurbo4}) {
    SCOPED_TRACE(InfoOf(codec).name);
    const FakeCodec plain = FakeCodecOf(codec, kDims);
    Rows corrected = x;
    subspace.Code(plain, InfoOf(codec).bits, {corrected.data(), kRows, kDims});
    const Rows error = Minus(corrected, x), plain_error = Minus(Through(plain, x), x);
    double harm = 0, plain_harm = 0;
    for (size_t r = 0; r < kRows; ++r) {
      harm += subspace.Harm(std::span(error).subspan(r * kDims, kDims));
      plain_harm += subspace.Harm(std::span(plain_error).subspan(r * kDims, kDims));
    }
    EXPECT_LT(harm, 0.5 * plain_harm);
    // What lies across the subspace pays for it.
    EXPECT_GT(Dot(error, error), Dot(plain_error, plain_error));
    for (size_t r = 0; r < kRows; ++r) {
      const auto norm = [&](const Rows& rows) {
        const auto row = std::span(rows).subspan(r * kDims, kDims);
        return std::sqrt(std::inner_product(row.begin(), row.end(), row.begin(), 0.0));
      };
      EXPECT_NEAR(norm(corrected), norm(x), 1e-4 * norm(x));
    }
  }
}

TEST(QuerySubspaceTest, AlikeInAllDirectionsThereIsNothingToChoose) {
  std::vector<double> moment(kDims * kDims);
  for (size_t d = 0; d < kDims; ++d) moment[d * kDims + d] = 3;
  const QuerySubspace subspace(moment, kDims, 16);
  const Rows x = Gaussian(kRows, 25);
  const FakeCodec plain = FakeCodecOf(Codec::kTurbo3, kDims);
  Rows corrected = x;
  subspace.Code(plain, 3, {corrected.data(), kRows, kDims});
  const Rows a = Minus(corrected, x), b = Minus(Through(plain, x), x);
  EXPECT_NEAR(Dot(a, a) / Dot(b, b), 1, 0.01);
}

TEST(NoRotationTest, OneHugeChannelNeedsTheTransform) {
  const Rows x = Gaussian(kRows, 1, [](int d) { return d == 5 ? 30.0 : 1.0; });
  FakeSide side;
  side.codec = FakeCodecOf(Codec::kTurbo3, kDims);
  side.rotate = true;
  const double rotated = RelativeSquare(Minus(Through(side, x), x), x);
  side.rotate = false;
  EXPECT_GT(RelativeSquare(Minus(Through(side, x), x), x), 3 * rotated);
}

// The calibrated map stays, its rotation goes: what the codec sees is unrotated.
TEST(NoRotationTest, UndoesTheRotationOfAMap) {
  Rows identity(kDims * kDims);
  for (int d = 0; d < kDims; ++d) identity[static_cast<size_t>(d * kDims + d)] = 1;
  RotateRows(identity.data(), kDims, kDims, kDims, Side::kKey);
  const KeyMap map = {identity.data(), identity.data(), nullptr};
  const Rows x = Gaussian(kRows, 2);
  Rows seen;
  FakeSide side;
  side.codec = [&](MatrixView<float> rows) {
    seen.assign(rows.data, rows.data + rows.rows * rows.cols);
  };
  side.maps = &map;
  const Rows back = Through(side, x);
  EXPECT_LT(RelativeSquare(Minus(back, x), x), 1e-10);
  EXPECT_LT(RelativeSquare(Minus(seen, x), x), 1e-10);
  side.rotate = true;
  Through(side, x);
  EXPECT_GT(RelativeSquare(Minus(seen, x), x), 0.1);
}

TEST(VectorMeanTest, IsLost) {
  Rows x = Gaussian(kRows, 3);
  for (float& value : x) value += 2;
  FakeSide side;
  side.codec = [](MatrixView<float>) {};
  side.rotate = side.vector_mean = true;
  const Rows y = Through(side, x);
  for (int r = 0; r < kRows; ++r) {
    const auto row = x.begin() + r * kDims;
    const float mean = std::accumulate(row, row + kDims, 0.0f) / kDims;
    for (int d = 0; d < kDims; ++d) ASSERT_NEAR(row[d] - mean, y[r * kDims + d], 1e-5);
  }
}

TEST(ChannelScaleTest, MakesUnevenChannelsCheaper) {
  const Rows x = Gaussian(kRows, 4, [](int d) { return d < 8 ? 6.0 : 0.4; });
  const std::vector<float> scales = ChannelScales({x.data(), kRows, kDims}, nullptr);
  EXPECT_LT(scales[0], 1);
  EXPECT_GT(scales[20], 1);
  EXPECT_NEAR(scales[20] / scales[0], std::pow(6.0 / 0.4, 0.2), 0.1);
  FakeSide side;
  side.codec = FakeCodecOf(Codec::kTurbo3, kDims);
  side.rotate = true;
  const double plain = RelativeSquare(Minus(Through(side, x), x), x);
  const Rows scaled = Through(side, x, {.scales = scales.data()});
  EXPECT_LT(RelativeSquare(Minus(scaled, x), x), 0.9 * plain);
  // What is subtracted first does not count, and even channels are left as they are.
  Rows shifted = Gaussian(kRows, 5);
  for (int i = 0; i < kRows; ++i) shifted[static_cast<size_t>(i * kDims)] += 50;
  const MatrixView<const float> view(shifted.data(), kRows, kDims);
  for (const float scale : ChannelScales(view, ChannelMeans(view).data()))
    EXPECT_NEAR(scale, 1, 0.1);
}

TEST(MseScaleTest, HasLessErrorAndShrinks) {
  const Rows x = Gaussian(kRows, 6);
  const FakeCodec codec = FakeCodecOf(Codec::kTurbo2, kDims);
  const Rows plain = Through(codec, x), scaled = Through(WithMseScale(codec), x);
  EXPECT_LT(RelativeSquare(Minus(scaled, x), x), 0.98 * RelativeSquare(Minus(plain, x), x));
  EXPECT_NEAR(Dot(plain, plain) / Dot(x, x), 1, 0.01);
  EXPECT_LT(Dot(scaled, scaled) / Dot(x, x), 0.95);
  // The error is at right angles to what is stored.
  EXPECT_NEAR(Dot(Minus(x, scaled), scaled) / Dot(x, x), 0, 1e-5);
}

// The estimate of the residual is right on average, and noisier than to leave the residual away:
// its squared error is pi / 2 (D - 1) / D of |e|^2.
TEST(SignResidualTest, IsUnbiasedAndNoisy) {
  const Rows x = Gaussian(kRows, 7);
  const FakeCodec two_bits = FakeCodecOf(Codec::kTurbo2, kDims);
  const Rows without = Through(two_bits, x), with = Through(WithSignResidual(two_bits, kDims), x);
  const Rows residual = Minus(x, without), estimate = Minus(with, without);
  EXPECT_NEAR(Dot(estimate, residual) / Dot(residual, residual), 1, 0.05);
  const double noise = RelativeSquare(Minus(with, x), residual);
  EXPECT_NEAR(noise, std::numbers::pi / 2 * (kDims - 1) / kDims, 0.15);
  // The bit is worth more in the codebook.
  const double three_bits =
      RelativeSquare(Minus(Through(FakeCodecOf(Codec::kTurbo3, kDims), x), x), residual);
  EXPECT_LT(5 * three_bits, noise);
}

TEST(AlphaTest, AtEncodingItIsTheSameButForRounding) {
  const Rows x = Gaussian(kRows, 8);
  const FakeCodec codec = FakeCodecOf(Codec::kTurbo3, kDims);
  Rows read = Through(codec, x);
  for (float& value : read) value *= 1.04f;
  const Rows stored = Through(WithEncodeAlpha(codec, 1.04), x);
  // 8-bit codes that precede may round otherwise: a few codes differ.
  EXPECT_LT(RelativeSquare(Minus(stored, read), read), 1e-3);
  EXPECT_NEAR(std::sqrt(Dot(stored, stored) / Dot(x, x)), 1.04, 0.005);
}

TEST(AlphaTest, FollowsContextAsFitted) {
  EXPECT_NEAR(ContextAlpha(3, 512), 1.058, 5e-4);
  EXPECT_NEAR(ContextAlpha(3, 8192), 1.018, 5e-4);
  EXPECT_NEAR(ContextAlpha(3, 1 << 20), 0.98, 1e-6);
  EXPECT_NEAR(ContextAlpha(2, 32768), 1.089, 5e-4);
  EXPECT_NEAR(ContextAlpha(2, 1), 1, 1e-6);
}

// One layer of attention by itself: 2 query heads, one of keys and values.
class IdeasAttentionTest : public testing::Test {
 protected:
  static constexpr int kTokens = 200;

  IdeasAttentionTest() {
    spec_.num_layers = spec_.kv_heads = 1;
    spec_.q_heads = 2;
    spec_.head_dim = kDims;
    spec_.attention_scale = 0.125f;
    spec_.layers.resize(1);
    policy_.k = policy_.v = {Codec::kTurbo3};
  }
  // All tokens coded.
  Rows Attend(const Ideas& ideas) const {
    SimulatedCache cache = SimulateCache(spec_, policy_);
    cache.whole_pages = false;
    cache.sinks = cache.window = 0;
    ApplyIdeas(ideas, policy_, kDims, cache);
    SimulatedAttention attention(spec_, std::move(cache), 1);
    Rows out(2 * kTokens * kDims);
    const auto view = [](auto& rows, int64_t cols) {
      return MatrixView(rows.data(), int64_t{kTokens}, cols);
    };
    attention.Attend(0, 0, 0, view(q_, 2 * kDims), view(k_, kDims), view(v_, kDims),
                     view(out, 2 * kDims));
    return out;
  }
  Rows Attend(Idea idea, double number = 0) const {
    Ideas ideas;
    ideas.Add(idea, number);
    return Attend(ideas);
  }
  static double Farthest(const Rows& a, const Rows& b) {
    double most = 0;
    for (size_t i = 0; i < a.size(); ++i) most = std::max(most, std::abs(double{a[i]} - b[i]));
    return most;
  }

  ModelSpec spec_;
  CachePolicy policy_;
  // Scores of deviation 2: weights from 1 to 1e-8.
  const Rows q_ = Gaussian(2 * kTokens, 9, [](int) { return 2.0; }), k_ = Gaussian(kTokens, 10),
             v_ = Gaussian(kTokens, 11);
};

TEST_F(IdeasAttentionTest, SmallWeightsMatterLittle) {
  const Rows plain = Attend(Ideas());
  EXPECT_EQ(Attend(Idea::kSparseV, 0), plain);
  const double at_1e6 = Farthest(Attend(Idea::kSparseV, 1e-6), plain);
  EXPECT_GT(at_1e6, 0);
  EXPECT_LT(at_1e6, 1e-5);
  EXPECT_GT(Farthest(Attend(Idea::kSparseV, 0.1), plain), 0.1);
}

TEST_F(IdeasAttentionTest, AlphaIsAFactorOfWhatIsRead) {
  const Rows plain = Attend(Ideas());
  EXPECT_EQ(Attend(Idea::kAlpha, 1), plain);
  Rows twice = plain;
  for (float& value : twice) value *= 2;
  EXPECT_LT(Farthest(Attend(Idea::kAlpha, 2), twice), 1e-5);
  const Rows by_context = Attend(Idea::kContextAlpha);
  for (int token = 0; token < kTokens; ++token) {
    const size_t at = static_cast<size_t>(token * 2 * kDims);
    EXPECT_NEAR(by_context[at], plain[at] * ContextAlpha(3, token + 1), 1e-5);
  }
}

// Every idea reaches the attention: the output changes, or it would measure nothing.
TEST_F(IdeasAttentionTest, EveryIdeaChangesSomething) {
  const Rows plain = Attend(Ideas());
  for (const IdeaInfo& info : kIdeas)
    EXPECT_GT(Farthest(Attend(info.idea, 0.9), plain), 1e-4) << info.name;
}

}  // namespace
}  // namespace tq::lab
