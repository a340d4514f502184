// SPDX-License-Identifier: Apache-2.0
// The fake-quantisation evaluator against the product, and what it can do that the product cannot.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/lab/simulated_model.h"
#include "turboquant/base/random.h"

namespace tq::lab {
namespace {

constexpr int kContext = 896;

class SimulationTest : public testing::TestWithParam<const char*> {
 protected:
  SimulationTest() : model_(MakeModel()) {}

  static SimulatedModel MakeModel() {
    const auto engine = test::LoadTinyEngine({.architecture = GetParam()}, 2);
    std::vector<TokenId> tokens = test::RandomTokens(*engine, kContext, 5);
    return {engine, MakeWindows(std::move(tokens), {}, kContext, 1, 1)};
  }
  SimulatedCache Cache(const char* k, const char* v) const {
    return SimulateCache(model_.spec(), model_.Policy(k, v));
  }

  SimulatedModel model_;
};

TEST_P(SimulationTest, ExactCachesGiveTheModel) {
  EXPECT_LT(model_.FromF32(Cache("f32", "f32")), 1e-7);
}

// The product rounds to 8 bits against another reference before it seals, which moves codes in
// less than 1 % of places: position by position the two agree closely, on average within error.
TEST_P(SimulationTest, AgreesWithTheProduct) {
  struct Case {
    const char *k, *v;
    int sink_pages, window = 128;
  };
  for (const Case& c :
       {Case{"turbo4", "turbo3", 1}, Case{"turbo2", "turbo2", 0}, Case{"turbo2", "turbo2", 1, 1},
        Case{"q4_0", "turbo3", 1}, Case{"turbo8", "q8_0", 1}}) {
    CachePolicy policy = model_.Policy(c.k, c.v);
    policy.sink_pages = c.sink_pages;
    policy.window = c.window;
    const auto [a, b] = model_.Scores(model_.Product(policy),
                                      model_.Simulated(SimulateCache(model_.spec(), policy)));
    const double cost = Mean(a.kld).value;
    const Estimate difference = BlockDifference(b.kld, a.kld, 32);
    EXPECT_GT(cost, 1e-7);
    // Two errors for the default policy; three where several are tried.
    const int errors = std::string(c.v) == "turbo3" && std::string(c.k) == "turbo4" ? 2 : 3;
    EXPECT_LT(std::abs(difference.value), std::max(errors * difference.error, 0.02 * cost))
        << c.k << "/" << c.v << " costs " << cost;
    double apart = 0;
    for (size_t i = 0; i < a.size(); ++i) apart += std::abs(a.kld[i] - b.kld[i]);
    EXPECT_LT(apart / static_cast<double>(a.size()), 0.3 * cost) << c.k << "/" << c.v;
  }
}

TEST_P(SimulationTest, RangesAreCountedToTheToken) {
  SimulatedCache cache = Cache("turbo2", "turbo2");
  cache.whole_pages = false;
  const auto with = [&](int sinks, int window) {
    cache.sinks = sinks;
    cache.window = window;
    return model_.FromF32(cache);
  };
  const double none = with(0, 0), some = with(0, 33), more = with(0, 300);
  EXPECT_LT(some, none);
  EXPECT_LT(more, some);
  // Everything in recent form: 8 bits.
  EXPECT_LT(with(0, kContext), 0.05 * none);
}

TEST_P(SimulationTest, PassesMayBeOfAnyLength) {
  SimulatedCache cache = Cache("turbo3", "turbo3");
  const double whole = model_.FromF32(cache, 768), parts = model_.FromF32(cache, 77);
  EXPECT_NEAR(parts, whole, 0.01 * whole);
}

// Pages are made side by side: to the bit the same, whoever makes them.
TEST_P(SimulationTest, ThreadsMakeNoDifference) {
  const ModelSpec& spec = model_.spec();
  const int64_t dims = spec.head_dim, q_cols = spec.q_heads * dims, kv_cols = spec.kv_heads * dims;
  constexpr int kTokens = 701;
  Random random(3);
  const auto gaussian = [&](int64_t n) {
    std::vector<float> x(static_cast<size_t>(n));
    for (float& value : x) value = static_cast<float>(random.Gaussian());
    return x;
  };
  const std::vector<float> q = gaussian(kTokens * q_cols), k = gaussian(kTokens * kv_cols),
                           v = gaussian(kTokens * kv_cols);
  const auto run = [&](int threads) {
    SimulatedCache cache = Cache("turbo3_tcq", "turbo2");
    cache.layers[0].k.centring = FakeCentring::kPrevious;  // of the page before, made elsewhere
    SimulatedAttention attention(spec, std::move(cache), threads);
    std::vector<float> out(q.size());
    int done = 0;
    for (const int pass : {200, 56, 300, 1, 144}) {  // pages in several passes, and several at once
      const auto rows = [&](const std::vector<float>& x, int64_t cols) {
        return MatrixView<const float>(x.data() + done * cols, pass, cols);
      };
      attention.Attend(0, 0, done, rows(q, q_cols), rows(k, kv_cols), rows(v, kv_cols),
                       {out.data() + done * q_cols, pass, q_cols});
      done += pass;
    }
    EXPECT_EQ(done, kTokens);
    return out;
  };
  const std::vector<float> alone = run(1);
  for (int again = 0; again < 5; ++again) ASSERT_TRUE(run(3) == alone);
}

TEST_P(SimulationTest, AnyFunctionIsACodec) {
  SimulatedCache cache = Cache("f32", "f32");
  cache.whole_pages = false;
  for (SimulatedLayer& layer : cache.layers) {
    layer.v.codec = [](MatrixView<float> rows) {
      for (int64_t r = 0; r < rows.rows; ++r) std::fill_n(rows.row(r), rows.cols, 0.0f);
    };
  }
  EXPECT_GT(model_.FromF32(cache), 1e-3);  // an exact cache gives less than 1e-7
  // What is subtracted before comes back: the codec sees deviations only.
  for (SimulatedLayer& layer : cache.layers) {
    layer.k.codec = layer.v.codec;
    layer.v.codec = nullptr;
    layer.k.centring = FakeCentring::kPage;
  }
  EXPECT_GT(model_.FromF32(cache), 1e-6);
}

// What is asked aside leaves no trace, in the product and simulated, whatever is read exactly.
TEST_P(SimulationTest, QuestionsAsideAreForgotten) {
  constexpr int kAsked = 60;
  const auto engine = test::LoadTinyEngine({.architecture = GetParam()}, 2);
  const std::vector<TokenId> text = test::RandomTokens(*engine, 640, 5),
                             a = test::RandomTokens(*engine, kAsked, 6),
                             b = test::RandomTokens(*engine, kAsked, 7);
  std::vector<std::unique_ptr<LogitsSource>> sources;
  sources.push_back(model_.Product(model_.Policy("turbo4", "turbo3")));
  sources.push_back(model_.Product(model_.Policy("f16", "f16")));
  for (const int window : {0, 64, 128}) {
    SimulatedCache cache = Cache("turbo2", "turbo2");
    cache.whole_pages = false;
    cache.window = window;
    sources.push_back(model_.Simulated(std::move(cache)));
  }
  sources.push_back(model_.Simulated(Cache("turbo3", "turbo3")));
  struct Last : LogitsSink {
    std::vector<float> row;
    void Rows(int, int, MatrixView<const float> logits) override {
      row.assign(logits.row(logits.rows - 1), logits.row(logits.rows - 1) + logits.cols);
    }
  };
  for (const auto& source : sources) {
    Last first, second, kept, nobody;
    source->Feed(text, 0, 0, nobody);
    source->FeedAside(a, kAsked - 1, kAsked, first);
    source->FeedAside(b, 0, kAsked, nobody);
    source->FeedAside(a, kAsked - 1, kAsked, second);
    EXPECT_EQ(first.row, second.row);
    source->Feed(a, kAsked - 1, kAsked, kept);
    EXPECT_EQ(first.row, kept.row);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, SimulationTest, testing::Values("llama", "gemma3"));

TEST(FakeCodecTest, KeyMapsAreInverted) {
  constexpr int kDims = 64;
  std::vector<float> keys(kDims * kDims), queries(kDims * kDims);
  // Row j: what the unit vector j becomes under a lower triangular map with a closed inverse (ones
  // on the diagonal and 1/2 below it), and under its inverse transposed; then both rotated.
  for (int j = 0; j < kDims; ++j) {
    keys[j * kDims + j] = 1;
    if (j + 1 < kDims) keys[j * kDims + j + 1] = 0.5f;
    for (int i = 0; i <= j; ++i) queries[j * kDims + i] = static_cast<float>(std::pow(-0.5, j - i));
  }
  for (std::vector<float>* matrix : {&keys, &queries})
    RotateRows(matrix->data(), kDims, kDims, kDims, Side::kKey);
  const KeyMap map = {keys.data(), queries.data(), nullptr};
  FakeSide side;
  side.codec = [](MatrixView<float>) {};
  side.rotate = true;
  side.maps = &map;
  std::vector<float> x(3 * kDims), mean(kDims, 0.25f);
  for (size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i));
  std::vector<float> back = x;
  ApplyFakeSide(side, Side::kKey, 0, {.reference = mean.data()}, {back.data(), 3, kDims});
  for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(back[i], x[i], 1e-5) << i;
}

}  // namespace
}  // namespace tq::lab
