// SPDX-License-Identifier: Apache-2.0
// Every filter against a plain sort of all tokens, distributions with fixed seeds, penalties
// against values computed by hand, and what stands in no textbook: NaN, ties, infinities.
#include "turboquant/engine/sampler.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "turboquant/base/error.h"

namespace tq {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

// Everything off: draws from the softmax.
SamplerSpec Plain(float temperature = 1) {
  return {.temperature = temperature, .top_k = 0, .top_p = 1, .min_p = 0, .logit_bias = {}};
}
SamplerSpec Greedy() { return Plain(0); }

TokenId SampleOnce(const SamplerSpec& spec, const std::vector<float>& logits,
                   const std::vector<TokenId>& before = {}) {
  Sampler sampler(spec);
  for (const TokenId token : before) sampler.Accept(token);
  return sampler.Sample(logits);
}

std::set<TokenId> Drawn(const SamplerSpec& spec, const std::vector<float>& logits,
                        int count = 2000) {
  Sampler sampler(spec);
  std::set<TokenId> drawn;
  for (int i = 0; i < count; ++i) drawn.insert(sampler.Sample(logits));
  return drawn;
}

std::vector<float> LogsOf(std::vector<float> probabilities) {
  for (float& p : probabilities) p = std::log(p);
  return probabilities;
}

template <typename Work>
std::string ErrorOf(ErrorCode code, const Work& work) {
  try {
    work();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    return error.what();
  }
  ADD_FAILURE() << "was accepted";
  return "";
}

// Many sizes around the block of 256, with ties, NaN and infinities.
std::vector<float> AwkwardLogits(size_t size, Random& random) {
  std::vector<float> logits(size);
  for (float& x : logits) {
    const double kind = random.Uniform();
    x = kind < 0.05   ? kNaN
        : kind < 0.10 ? -kInf
        : kind < 0.4  ? std::floor(static_cast<float>(random.Gaussian() * 3))
                      : static_cast<float>(random.Gaussian() * 3);
  }
  return logits;
}

std::vector<Candidate> Sorted(const std::vector<float>& logits) {
  std::vector<Candidate> all;
  for (size_t i = 0; i < logits.size(); ++i)
    if (logits[i] > -kInf) all.push_back({logits[i], static_cast<TokenId>(i)});
  std::ranges::stable_sort(all, [](const auto& a, const auto& b) { return a.logit > b.logit; });
  return all;
}

TEST(TopLogits, AsAFullSort) {
  Random random(1);
  for (const size_t size : {1u, 2u, 15u, 16u, 17u, 255u, 256u, 257u, 511u, 600u, 5000u}) {
    for (int repeat = 0; repeat < 20; ++repeat) {
      const std::vector<float> logits = AwkwardLogits(size, random);
      const std::vector<Candidate> all = Sorted(logits);
      EXPECT_EQ(LargestLogit(logits), all.empty() ? -1 : all[0].id);
      for (const size_t count : {0u, 1u, 3u, 40u, 300u, 5000u}) {
        std::vector<Candidate> top;
        LargestLogits(logits, count, top);
        ASSERT_EQ(top.size(), std::min<size_t>(count, all.size()));
        for (size_t i = 0; i < top.size(); ++i) EXPECT_EQ(top[i].id, all[i].id);
      }
    }
  }
}

TEST(Sampler, Greedy) {
  EXPECT_EQ(SampleOnce(Greedy(), {1, 3, 2}), 1);
  EXPECT_EQ(SampleOnce(Greedy(), {1, 3, 3, 3}), 1);  // ties: the lower id
  EXPECT_EQ(SampleOnce(Greedy(), {kNaN, -5, kNaN}), 1);
  EXPECT_EQ(SampleOnce(Greedy(), {0, kInf, kInf}), 1);
  EXPECT_EQ(SampleOnce(Greedy(), {-kInf, -kInf, -3e38f}), 2);
  EXPECT_EQ(SampleOnce(Plain(-1), {1, 3, 2}), 1);
}

TEST(Sampler, NothingToChoose) {
  for (const SamplerSpec& spec : {Greedy(), Plain(), SamplerSpec()}) {
    for (const std::vector<float>& logits :
         {std::vector<float>{}, {kNaN, kNaN}, {-kInf, kNaN, -kInf}}) {
      EXPECT_THAT(ErrorOf(ErrorCode::kCorruptFile, [&] { SampleOnce(spec, logits); }),
                  HasSubstr("no token can be chosen"));
    }
  }
}

TEST(Sampler, NeverChoosesNaN) {
  for (SamplerSpec spec : {SamplerSpec(), Plain(), Plain(100)}) {
    EXPECT_THAT(Drawn(spec, {kNaN, 1, kNaN, 1.5, -kInf}), ElementsAre(1, 3));
    EXPECT_THAT(Drawn(spec, {1, kInf, 2, kInf}), ElementsAre(1, 3));
  }
}

// The draws follow softmax(logits / temperature): chi-square at 5 degrees of freedom, 0.1 % bound.
TEST(Sampler, DrawsFromTheSoftmax) {
  const std::vector<float> logits = {0.5f, -1, 2, 1.7f, 0, -0.3f};
  for (const float temperature : {0.5f, 1.0f, 3.0f}) {
    std::vector<double> expected;
    double mass = 0;
    for (const float x : logits) mass += expected.emplace_back(std::exp(x / temperature));
    Sampler sampler(Plain(temperature));
    std::vector<int> seen(logits.size());
    constexpr int kDraws = 200000;
    for (int i = 0; i < kDraws; ++i) ++seen[static_cast<size_t>(sampler.Sample(logits))];
    double chi_square = 0;
    for (size_t i = 0; i < seen.size(); ++i) {
      const double mean = kDraws * expected[i] / mass;
      chi_square += (seen[i] - mean) * (seen[i] - mean) / mean;
    }
    EXPECT_LT(chi_square, 20.5) << "temperature " << temperature;
  }
}

TEST(Sampler, TopK) {
  SamplerSpec spec = Plain(10);
  spec.top_k = 2;
  EXPECT_THAT(Drawn(spec, {1, 4, 3, 2}), ElementsAre(1, 2));
  EXPECT_THAT(Drawn(spec, {3, 4, 3, 3}), ElementsAre(0, 1));  // ties: the lower id
  spec.top_k = 1;
  EXPECT_THAT(Drawn(spec, {1, 4, 3, 4}), ElementsAre(1));
  spec.top_k = 100;
  EXPECT_THAT(Drawn(spec, {1, 4, 3, 2}), ElementsAre(0, 1, 2, 3));
}

TEST(Sampler, TopP) {
  const std::vector<float> logits = LogsOf({0.05f, 0.5f, 0.15f, 0.3f});
  SamplerSpec spec = Plain();
  for (const auto& [p, kept] : {std::pair{0.0f, 1},
                                {0.49f, 1},
                                {0.51f, 2},
                                {0.79f, 2},
                                {0.81f, 3},
                                {0.94f, 3},
                                {0.96f, 4}}) {
    spec.top_p = p;
    EXPECT_EQ(Drawn(spec, logits).size(), static_cast<size_t>(kept)) << p;
  }
  spec.top_p = 0.79f;
  EXPECT_THAT(Drawn(spec, logits), ElementsAre(1, 3));
}

TEST(Sampler, MinP) {
  const std::vector<float> logits = LogsOf({0.05f, 0.5f, 0.15f, 0.3f});
  SamplerSpec spec = Plain();
  for (const auto& [p, kept] : {std::pair{0.09f, 4},
                                {0.11f, 3},
                                {0.29f, 3},
                                {0.31f, 2},
                                {0.61f, 1},
                                {1.0f, 1},
                                {7.0f, 1}}) {
    spec.min_p = p;
    EXPECT_EQ(Drawn(spec, logits).size(), static_cast<size_t>(kept)) << p;
  }
}

// The filters work on what top-k left, before the temperature.
TEST(Sampler, OrderOfTheFilters) {
  const std::vector<float> logits = LogsOf({0.4f, 0.3f, 0.2f, 0.1f});
  SamplerSpec spec = Plain();
  spec.top_k = 2;      // .571 .429
  spec.top_p = 0.55f;  // of four tokens it would keep two
  EXPECT_THAT(Drawn(spec, logits), ElementsAre(0));
  spec = Plain(50);  // nearly flat
  spec.min_p = 0.6f;
  EXPECT_THAT(Drawn(spec, logits), ElementsAre(0, 1));
  spec = Plain(0.05f);  // nearly greedy
  spec.top_p = 0.95f;
  EXPECT_THAT(Drawn(spec, LogsOf({0.35f, 0.33f, 0.32f}), 20000), Contains(1));
}

// All filters at once over a large vocabulary: the same draws as from a sorted list of everything.
TEST(Sampler, AsAFullSort) {
  Random random(3);
  for (int repeat = 0; repeat < 60; ++repeat) {
    std::vector<float> logits(static_cast<size_t>(1000 + repeat * 97));
    const double spread = 0.2 + 4 * random.Uniform();
    for (float& x : logits) x = static_cast<float>(random.Gaussian() * spread);
    SamplerSpec spec = Plain(static_cast<float>(0.2 + random.Uniform()));
    spec.top_k = repeat % 3 == 0 ? 0 : 1 + static_cast<int>(random.Next() % 500);
    spec.top_p = static_cast<float>(random.Uniform() * 0.999);
    spec.min_p = repeat % 2 == 0 ? 0 : static_cast<float>(random.Uniform() * 0.2);
    spec.seed = random.Next();

    std::vector<Candidate> kept = Sorted(logits);
    if (spec.top_k > 0) kept.resize(std::min<size_t>(kept.size(), static_cast<size_t>(spec.top_k)));
    std::vector<double> p;
    double mass = 0, seen = 0;
    for (const Candidate& c : kept)
      mass += p.emplace_back(std::exp(double{c.logit} - kept[0].logit));
    size_t size = 0;
    while (size < kept.size() && seen < spec.top_p * mass) seen += p[size++];
    while (size > 1 && p[size - 1] < spec.min_p) --size;
    kept.resize(std::max<size_t>(size, 1));
    mass = 0;
    for (size_t i = 0; i < kept.size(); ++i)
      mass += p[i] = std::exp((double{kept[i].logit} - kept[0].logit) / spec.temperature);

    Sampler sampler(spec);
    Random draws(spec.seed);
    for (int i = 0; i < 50; ++i) {
      double left = draws.Uniform() * mass;
      size_t at = 0;
      while (at + 1 < kept.size() && left >= p[at]) left -= p[at++];
      ASSERT_EQ(sampler.Sample(logits), kept[at].id) << "round " << repeat << ", draw " << i;
    }
  }
}

// The largest rival that still loses against token 0: its logit after the penalties.
float LogitAfter(const SamplerSpec& spec, float logit, const std::vector<TokenId>& before) {
  float low = -100, high = 100;
  for (int i = 0; i < 60; ++i) {
    const float middle = (low + high) / 2;
    (SampleOnce(spec, {logit, middle}, before) == 0 ? low : high) = middle;
  }
  return low;
}

TEST(Sampler, PenaltiesByHand) {
  SamplerSpec spec = Greedy();
  spec.repeat_penalty = 1.25f;
  EXPECT_NEAR(LogitAfter(spec, 2, {0, 0}), 1.6, 1e-5);   // 2 / 1.25, however often
  EXPECT_NEAR(LogitAfter(spec, -2, {0}), -2.5, 1e-5);    // -2 * 1.25
  EXPECT_NEAR(LogitAfter(spec, 2, {5, 6, 7}), 2, 1e-5);  // others only
  spec.presence_penalty = 0.5f;
  EXPECT_NEAR(LogitAfter(spec, 2, {0, 0, 0}), 1.1, 1e-5);  // 1.6 - 0.5
  spec.frequency_penalty = 0.1f;
  EXPECT_NEAR(LogitAfter(spec, 2, {0, 0, 0}), 0.8, 1e-5);  // 1.6 - 0.5 - 3 x 0.1
  EXPECT_NEAR(LogitAfter(spec, -2, {0}), -3.1, 1e-5);      // -2.5 - 0.5 - 0.1
  spec.repeat_penalty = 1;
  spec.presence_penalty = 0;
  spec.frequency_penalty = -0.25f;  // rewards
  EXPECT_NEAR(LogitAfter(spec, 2, {0, 0}), 2.5, 1e-5);
}

TEST(Sampler, PenaltiesLookBackSoFar) {
  SamplerSpec spec = Greedy();
  spec.frequency_penalty = 1;
  spec.penalty_last_n = 3;
  EXPECT_NEAR(LogitAfter(spec, 2, {0, 0, 0, 0, 0}), -1, 1e-5);
  EXPECT_NEAR(LogitAfter(spec, 2, {0, 7, 0, 7}), 1, 1e-5);
  EXPECT_NEAR(LogitAfter(spec, 2, {0, 7, 7, 7}), 2, 1e-5);
  spec.penalty_last_n = 0;
  EXPECT_NEAR(LogitAfter(spec, 2, {0, 0}), 2, 1e-5);
  spec.penalty_last_n = -1;
  EXPECT_NEAR(LogitAfter(spec, 2, std::vector<TokenId>(90, 0)), -88, 1e-4);
  spec.penalty_last_n = 64;
  EXPECT_EQ(SampleOnce(spec, {1, 0.5f}, {-3, 900, 2}), 0);  // ids that the vocabulary has not
}

TEST(Sampler, LogitBias) {
  SamplerSpec spec = Greedy();
  spec.logit_bias = {{0, -1.5f}, {2, 0.75f}};
  EXPECT_EQ(SampleOnce(spec, {3, 2, 1}), 1);     // 1.5 2 1.75
  EXPECT_EQ(SampleOnce(spec, {3, 2, 1.5f}), 2);  // 1.5 2 2.25
  spec.logit_bias = {{0, -kInf}};
  EXPECT_EQ(SampleOnce(spec, {3, 2, 1}), 1);
  EXPECT_EQ(SampleOnce(spec, {kInf, 2, 1}), 1);  // infinity - infinity is no number
  spec = Plain();
  spec.logit_bias = {{1, kInf}};
  EXPECT_THAT(Drawn(spec, {3, 2, 1}), ElementsAre(1));
  spec.logit_bias = {{0, -kInf}, {1, -kInf}};
  EXPECT_THAT(ErrorOf(ErrorCode::kCorruptFile,
                      [&] {
                        SampleOnce(spec, {3, 2});
                      }),
              HasSubstr("forbids every token"));
  EXPECT_THAT(ErrorOf(ErrorCode::kInvalidArgument, [&] { SampleOnce(spec, {3}); }),
              HasSubstr("token 1, but the vocabulary has 1"));
  // Before the penalties: (1 + 3) / 2 against 3.
  spec = Greedy();
  spec.logit_bias = {{0, 3}};
  spec.repeat_penalty = 2;
  EXPECT_NEAR(LogitAfter(spec, 1, {0}), 2, 1e-5);
}

TEST(Sampler, RefusesValuesWithoutMeaning) {
  const auto error_of = [](const auto& change) {
    SamplerSpec spec;
    change(spec);
    return ErrorOf(ErrorCode::kInvalidArgument, [&] { Sampler sampler(spec); });
  };
  EXPECT_THAT(error_of([](auto& s) { s.temperature = kNaN; }), HasSubstr("temperature"));
  EXPECT_THAT(error_of([](auto& s) { s.top_p = kNaN; }), HasSubstr("top-p"));
  EXPECT_THAT(error_of([](auto& s) { s.min_p = kNaN; }), HasSubstr("min-p"));
  EXPECT_THAT(error_of([](auto& s) { s.repeat_penalty = 0; }), HasSubstr("repeat penalty"));
  EXPECT_THAT(error_of([](auto& s) { s.presence_penalty = kInf; }), HasSubstr("presence"));
  EXPECT_THAT(error_of([](auto& s) { s.frequency_penalty = kNaN; }), HasSubstr("frequency"));
  EXPECT_THAT(error_of([](auto& s) { s.logit_bias[7] = kNaN; }), HasSubstr("token 7"));
}

std::vector<TokenId> Draws(Sampler& sampler, Random& source, int count) {
  std::vector<TokenId> tokens;
  for (int i = 0; i < count; ++i) {
    std::vector<float> logits(50);
    for (float& x : logits) x = static_cast<float>(source.Gaussian());
    tokens.push_back(sampler.Sample(logits));
    sampler.Accept(tokens.back());
  }
  return tokens;
}

TEST(Sampler, SeedsRepeatAndDiffer) {
  std::vector<std::vector<TokenId>> runs;
  for (const uint64_t seed : {1u, 1u, 2u}) {
    SamplerSpec spec;
    spec.seed = seed;
    Sampler sampler(spec);
    Random source(9);
    runs.push_back(Draws(sampler, source, 100));
  }
  EXPECT_EQ(runs[0], runs[1]);
  EXPECT_NE(runs[0], runs[2]);
}

TEST(Sampler, SavedStateContinues) {
  SamplerSpec spec;
  spec.seed = 5;
  spec.frequency_penalty = 0.5f;
  spec.penalty_last_n = 20;
  Sampler sampler(spec);
  Random source(9);
  Draws(sampler, source, 33);
  const std::vector<std::byte> state = sampler.SaveState();
  spec.seed = 77;
  Sampler other(spec);
  other.Accept(3);
  other.RestoreState(state);
  EXPECT_EQ(other.SaveState(), state);
  Random same_source = source;
  EXPECT_EQ(Draws(sampler, source, 100), Draws(other, same_source, 100));
}

TEST(Sampler, RefusesForeignState) {
  Sampler sampler(SamplerSpec{});
  sampler.Accept(4);
  const std::vector<std::byte> state = sampler.SaveState();
  std::vector<std::vector<std::byte>> wrong = {{}, state, state, state};
  wrong[1].pop_back();
  wrong[2].push_back({});
  wrong[3][0] ^= std::byte{1};
  for (const auto& bytes : wrong) {
    EXPECT_THAT(ErrorOf(ErrorCode::kCorruptFile, [&] { sampler.RestoreState(bytes); }),
                HasSubstr("no state of a sampler"));
    EXPECT_EQ(sampler.SaveState(), state);
  }
}

}  // namespace
}  // namespace tq
