// SPDX-License-Identifier: Apache-2.0
// The forward pass against the reference in double, on small random models of every architecture.
#include "turboquant/model/decoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "tests/support/loaded_model.h"
#include "tests/support/reference_model.h"
#include "tests/support/tiny_model.h"
#include "turboquant/base/random.h"

namespace tq {
namespace {

using test::LoadedModel;
using test::ReferenceModel;
using test::TinyModel;
using test::TinyModelFile;
using test::TinyModelOf;
using test::TinyRope;

std::vector<int32_t> RandomTokens(int count, int vocabulary, uint64_t seed = 7) {
  Random random(seed);
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (int32_t& token : tokens) {
    token = static_cast<int32_t>(random.Next() % static_cast<uint64_t>(vocabulary));
  }
  return tokens;
}

// Root of the mean square of got - want over that of want, both without their means: what softmax
// sees.
double RelativeError(const std::vector<float>& got, const std::vector<double>& want) {
  const auto n = static_cast<double>(want.size());
  double got_mean = 0, want_mean = 0, error = 0, size = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    got_mean += got[i] / n;
    want_mean += want[i] / n;
  }
  for (size_t i = 0; i < want.size(); ++i) {
    const double w = want[i] - want_mean, g = got[i] - got_mean;
    error += (g - w) * (g - w);
    size += w * w;
  }
  return std::sqrt(error / size);
}

struct Errors {
  double worst = 0;  // of a row
  double mean = 0;   // root of the mean square over rows
};

Errors RelativeErrors(const std::vector<std::vector<float>>& got,
                      const ReferenceModel::Rows& want) {
  if (got.size() != want.size() || got[0].size() != want[0].size()) return {HUGE_VAL, HUGE_VAL};
  Errors errors;
  for (size_t i = 0; i < want.size(); ++i) {
    const double error = RelativeError(got[i], want[i]);
    errors.worst = std::max(errors.worst, error);
    errors.mean += error * error / static_cast<double>(want.size());
  }
  errors.mean = std::sqrt(errors.mean);
  return errors;
}

struct Case {
  std::string name;
  TinyModel model;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

TinyModel With(TinyModel model, const std::function<void(TinyModel&)>& change) {
  change(model);
  return model;
}

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const char* architecture : {"llama", "qwen2", "qwen3", "gemma3"}) {
    const TinyModel plain = TinyModelOf(architecture);
    const auto add = [&](const std::string& name, const std::function<void(TinyModel&)>& change) {
      cases.push_back({std::string(architecture) + name, With(plain, change)});
    };
    add("", [](TinyModel&) {});
    add("_untied", [](TinyModel& m) { m.tied_output = false; });
    add("_linear", [](TinyModel& m) { m.rope = TinyRope::kLinear; });
    add("_yarn", [](TinyModel& m) { m.rope = TinyRope::kYarn; });
    add("_llama3", [](TinyModel& m) { m.rope = TinyRope::kLlama3; });
    add("_partly_rotated", [](TinyModel& m) { m.rotary_dim = m.head_dim / 2; });
    for (const int head_dim : {64, 80, 96, 128, 256}) {
      if (head_dim == plain.head_dim || plain.architecture.starts_with("qwen")) continue;
      add("_d" + std::to_string(head_dim), [&](TinyModel& m) { m.head_dim = head_dim; });
    }
    add("_one_kv_head", [](TinyModel& m) { m.kv_heads = 1; });
    add("_no_groups", [](TinyModel& m) { m.kv_heads = m.q_heads; });
    add("_sixteen_to_one", [](TinyModel& m) {
      m.q_heads = 16;
      m.kv_heads = 1;
    });
    add("_three_groups", [](TinyModel& m) {
      m.q_heads = 9;
      m.kv_heads = 3;
    });
  }
  for (const BlockFormatInfo& info : kBlockFormats) {
    cases.push_back({fmt::format("llama_{}", info.name), With(TinyModelOf("llama"), [&](auto& m) {
                       m.embedding = m.feed_forward = 256;
                       m.matrices = m.embeddings = info.format;
                     })});
  }
  // As Q4_K_M files mix them: q, k and v cannot be stacked.
  cases.push_back({"qwen2_mixed", With(TinyModelOf("qwen2"), [](TinyModel& m) {
                     m.matrices = BlockFormat::kQ4_0;
                     m.embeddings = BlockFormat::kQ8_0;
                     m.tied_output = false;
                   })});
  return cases;
}

class DecoderTest : public ::testing::TestWithParam<Case> {};

constexpr int kLength = 150;  // beyond gemma3's window of 32 and the first page
// f32 sums in another order. Offsets of Q2_K, Q4_K and Q5_K that cancel cost the most: 6e-5 is
// measured there, 6e-6 elsewhere.
constexpr double kPreciseWorst = 1.5e-4;
// 8-bit activations, a scale per 32 values: 0.033 is measured. For formats with blocks of 256,
// prefill on AVX-512 takes weights at 8 bits too, and for both one scale per block: 0.066.
constexpr double kFastMean = 0.045;
constexpr double kFastMeanOfLargeBlocks = 0.09;

TEST_P(DecoderTest, EqualsTheReference) {
  const TinyModelFile file(GetParam().model);
  LoadedModel model(*file, 1);
  const std::vector<int32_t> tokens = RandomTokens(kLength, model.spec.vocabulary);
  const ReferenceModel::Result want = ReferenceModel(*file).Run(tokens);

  // In one step, and in steps of several sizes, single tokens among them.
  const auto run = [&](std::span<const int> steps, PrefillMode prefill, Precision precision) {
    const auto cache = model.MakeCache(Codec::kF32, Codec::kF32);
    const SequenceId sequence = cache->NewSequence();
    std::vector<std::vector<float>> rows;
    std::span<const int32_t> left = tokens;
    for (size_t i = 0; !left.empty(); ++i) {
      const size_t count = std::min(left.size(), static_cast<size_t>(steps[i % steps.size()]));
      for (auto& row : model.Run(*cache, sequence, left.first(count), true, prefill, precision)) {
        rows.push_back(std::move(row));
      }
      left = left.subspan(count);
    }
    return RelativeErrors(rows, want.logits);
  };
  constexpr int kWhole[] = {kLength}, kSingly[] = {1}, kSteps[] = {1, 33, 1, 2, 7, 64};
  EXPECT_LT(run(kWhole, PrefillMode::kExact, Precision::kPrecise).worst, kPreciseWorst);
  EXPECT_LT(run(kWhole, PrefillMode::kFast, Precision::kPrecise).worst, kPreciseWorst);
  EXPECT_LT(run(kSteps, PrefillMode::kExact, Precision::kPrecise).worst, kPreciseWorst);
  EXPECT_LT(run(kSingly, PrefillMode::kFast, Precision::kFast).mean, kFastMean);
  const bool large = InfoOf(GetParam().model.matrices).values_per_block == 256;
  const double prefill_mean = large ? kFastMeanOfLargeBlocks : kFastMean;
  EXPECT_LT(run(kWhole, PrefillMode::kFast, Precision::kFast).mean, prefill_mean);
  EXPECT_LT(run(kSteps, PrefillMode::kFast, Precision::kFast).mean, prefill_mean);
}

INSTANTIATE_TEST_SUITE_P(All, DecoderTest, ::testing::ValuesIn(Cases()),
                         [](const auto& info) { return info.param.name; });

// On gemma3: layers with and without a sliding window.
class StepPlanTest : public ::testing::Test {
 protected:
  // The rows of one sequence that has the model to itself.
  std::vector<std::vector<float>> Alone(const std::vector<int32_t>& tokens) {
    const auto cache = model_.MakeCache(Codec::kF32, Codec::kF32);
    return model_.Run(*cache, cache->NewSequence(), tokens, true);
  }
  std::vector<int32_t> Tokens(int count, uint64_t seed) const {
    return RandomTokens(count, model_.spec.vocabulary, seed);
  }
  static StepPlan Plan(std::vector<SequenceSpan> spans, LogitsSink* sink) {
    StepPlan plan;
    plan.spans = std::move(spans);
    plan.sink = sink;
    plan.prefill = PrefillMode::kExact;
    plan.precision = Precision::kPrecise;
    return plan;
  }

  TinyModelFile file_{TinyModelOf("gemma3")};
  LoadedModel model_{*file_, 1};
};

double MaxDifference(const std::vector<float>& a, const std::vector<float>& b) {
  double most = a.size() == b.size() ? 0 : HUGE_VAL;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    most = std::max(most, std::abs(double{a[i]} - double{b[i]}));
  }
  return most;
}

TEST_F(StepPlanTest, SequencesInOneStepAreAsEachAlone) {
  const std::vector<std::vector<int32_t>> texts = {Tokens(50, 1), Tokens(1, 2), Tokens(140, 3)};
  const auto cache = model_.MakeCache(Codec::kF32, Codec::kF32);
  std::vector<SequenceId> ids;
  for (size_t i = 0; i < texts.size(); ++i) ids.push_back(cache->NewSequence());
  // First 40, 0 and 139 tokens, then what is left of all three.
  model_.Run(*cache, ids[0], std::span(texts[0]).first(40));
  model_.Run(*cache, ids[2], std::span(texts[2]).first(139));
  test::CollectLogits sink;
  model_.decoder.Forward(Plan({{.sequence = ids[2], .tokens = std::span(texts[2]).subspan(139)},
                               {.sequence = ids[0], .tokens = std::span(texts[0]).subspan(40)},
                               {.sequence = ids[1], .tokens = texts[1]}},
                              &sink),
                         *cache);
  ASSERT_EQ(sink.rows.size(), 3u);
  const size_t order[] = {2, 0, 1};
  for (int span = 0; span < 3; ++span) {
    const auto& row = sink.rows[static_cast<size_t>(span)];
    EXPECT_EQ(row.span, span);
    EXPECT_LT(MaxDifference(row.logits, Alone(texts[order[span]]).back()), 1e-4) << span;
  }
  for (size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ(cache->Length(ids[i]), static_cast<int64_t>(texts[i].size()));
  }
}

TEST_F(StepPlanTest, OnlyTheLogitsThatAreWantedCome) {
  const std::vector<int32_t> a = Tokens(5, 1), b = Tokens(130, 2), c = Tokens(7, 3);
  const auto cache = model_.MakeCache(Codec::kF32, Codec::kF32);
  const SequenceId ids[] = {cache->NewSequence(), cache->NewSequence(), cache->NewSequence(),
                            cache->NewSequence()};
  test::CollectLogits sink;
  model_.decoder.Forward(Plan({{.sequence = ids[0], .tokens = a, .logits = LogitsWanted::kNone},
                               {.sequence = ids[1],
                                .tokens = b,
                                .logits = LogitsWanted::kRange,
                                .logits_begin = 20,
                                .logits_end = 125},  // more rows than one block has
                               {.sequence = ids[2], .tokens = c},
                               {.sequence = ids[3],
                                .tokens = a,
                                .logits = LogitsWanted::kRange,
                                .logits_begin = 3,
                                .logits_end = 3}},
                              &sink),
                         *cache);
  const auto want_b = Alone(b);
  ASSERT_EQ(sink.rows.size(), 106u);
  for (int i = 0; i < 105; ++i) {
    const auto& row = sink.rows[static_cast<size_t>(i)];
    EXPECT_EQ(row.span, 1);
    EXPECT_EQ(row.token, 20 + i);
    EXPECT_LT(MaxDifference(row.logits, want_b[static_cast<size_t>(20 + i)]), 1e-4);
  }
  EXPECT_EQ(sink.rows.back().span, 2);
  EXPECT_EQ(sink.rows.back().token, 6);
  EXPECT_LT(MaxDifference(sink.rows.back().logits, Alone(c).back()), 1e-4);
}

// Compares what it sees with the reference.
class WatchLayers : public Observer {
 public:
  explicit WatchLayers(const ModelSpec& spec) : spec_(spec) {}
  void Layer(int layer, SequenceId sequence, int64_t first_position, MatrixView<float> q,
             MatrixView<float> k, MatrixView<float> v) override {
    EXPECT_EQ(layer, next_layer++);
    EXPECT_EQ(sequence, wanted_sequence);
    EXPECT_EQ(q.cols, spec_.q_heads * spec_.head_dim);
    EXPECT_EQ(k.cols, spec_.kv_heads * spec_.head_dim);
    EXPECT_EQ(v.cols, spec_.kv_heads * spec_.head_dim);
    EXPECT_EQ(k.rows, q.rows);
    EXPECT_EQ(v.rows, q.rows);
    const auto& trace = want->layers[static_cast<size_t>(layer)];
    Compare(q, trace.q, first_position);
    Compare(k, trace.k, first_position);
    Compare(v, trace.v, first_position);
  }

  const ReferenceModel::Result* want = nullptr;
  SequenceId wanted_sequence = 0;
  int next_layer = 0;

 private:
  static void Compare(MatrixView<float> got, const ReferenceModel::Rows& want, int64_t first) {
    for (int64_t t = 0; t < got.rows; ++t) {
      const std::vector<float> row(got.row(t), got.row(t) + got.cols);
      EXPECT_LT(RelativeError(row, want[static_cast<size_t>(first + t)]), 1e-4) << "token " << t;
    }
  }
  const ModelSpec& spec_;
};

TEST_F(StepPlanTest, ObserverSeesQueriesKeysAndValues) {
  const std::vector<int32_t> tokens = Tokens(60, 4);
  const ReferenceModel::Result want = ReferenceModel(*file_).Run(tokens);
  const auto cache = model_.MakeCache(Codec::kF32, Codec::kF32);
  WatchLayers watch(model_.spec);
  watch.want = &want;
  watch.wanted_sequence = cache->NewSequence();
  for (const auto& part : {std::span(tokens).first(45), std::span(tokens).subspan(45)}) {
    test::CollectLogits sink;
    StepPlan plan = Plan({{.sequence = watch.wanted_sequence, .tokens = part}}, &sink);
    plan.observer = &watch;
    watch.next_layer = 0;
    model_.decoder.Forward(plan, *cache);
    EXPECT_EQ(watch.next_layer, model_.spec.num_layers);
    ASSERT_EQ(sink.rows.size(), 1u);
  }
}

// Keeps queries, keys and values of all layers.
class KeepLayers : public Observer {
 public:
  void Layer(int, SequenceId, int64_t, MatrixView<float> q, MatrixView<float> k,
             MatrixView<float> v) override {
    for (const MatrixView<float>& m : {q, k, v}) {
      for (int64_t t = 0; t < m.rows; ++t) seen.insert(seen.end(), m.row(t), m.row(t) + m.cols);
    }
  }
  std::vector<float> seen;
};

TEST_F(StepPlanTest, AFrugalPassShowsTheSame) {
  const std::vector<int32_t> tokens = Tokens(300, 6);
  KvGeometry shared = model_.spec.kv_geometry();
  std::vector<int> cache_layers;  // of local and of global layers
  for (const int window : shared.sliding_window) cache_layers.push_back(window == 0 ? 1 : 0);
  ASSERT_THAT(cache_layers, ::testing::Contains(1));
  shared.sliding_window = {shared.sliding_window[0], 0};
  shared.num_layers = 2;
  CachePolicy two;
  two.k = two.v = {Codec::kF16, Codec::kF16};
  KvCache shared_cache(shared, two, model_.backend->MakeArenaMemory(uint64_t{1} << 30), 0);
  const auto cache = model_.MakeCache(Codec::kF16, Codec::kF16);
  const auto watch = [&](KvCache& in, bool frugal) {
    KeepLayers keep;
    StepPlan plan;
    plan.spans = {{.sequence = in.NewSequence(), .tokens = tokens, .logits = LogitsWanted::kNone}};
    plan.observer = &keep;
    plan.frugal = frugal;
    if (frugal) plan.cache_layers = cache_layers;
    model_.decoder.Forward(plan, in);
    return keep.seen;
  };
  EXPECT_EQ(watch(shared_cache, true), watch(*cache, false));
}

class FailingObserver : public Observer {
 public:
  void Layer(int layer, SequenceId, int64_t, MatrixView<float>, MatrixView<float>,
             MatrixView<float>) override {
    if (layer == 2) Throw(ErrorCode::kCancelled, "enough");
  }
};

TEST_F(StepPlanTest, AStepThatFailsLeavesTheCacheAsItWas) {
  const std::vector<int32_t> tokens = Tokens(60, 5);
  const auto cache = model_.MakeCache(Codec::kF32, Codec::kF32);
  const SequenceId sequence = cache->NewSequence();
  model_.Run(*cache, sequence, std::span(tokens).first(40));
  FailingObserver observer;
  const std::vector<int32_t> others = Tokens(3, 6);
  StepPlan plan = Plan({{.sequence = sequence, .tokens = others}}, nullptr);
  plan.observer = &observer;
  EXPECT_THROW(model_.decoder.Forward(plan, *cache), Error);
  EXPECT_EQ(cache->Length(sequence), 40);
  const auto logits = model_.Run(*cache, sequence, std::span(tokens).subspan(40));
  EXPECT_LT(MaxDifference(logits.back(), Alone(tokens).back()), 1e-4);
}

TEST_F(StepPlanTest, PlansThatCannotBeMeantAreRefused) {
  const auto cache = model_.MakeCache(Codec::kF32, Codec::kF32);
  const SequenceId sequence = cache->NewSequence();
  const auto refusal = [&](const std::vector<SequenceSpan>& spans) -> std::string {
    try {
      model_.decoder.Forward(Plan(spans, nullptr), *cache);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_EQ(cache->Length(sequence), 0);
      return error.what();
    }
    return "accepted";
  };
  const std::vector<int32_t> good = {1, 2}, negative = {1, -1}, beyond = {model_.spec.vocabulary};
  using ::testing::HasSubstr;
  EXPECT_EQ(refusal({}), "a step without tokens");
  EXPECT_EQ(refusal({{.sequence = sequence, .tokens = {}}}), "span 0 of the step has no tokens");
  EXPECT_THAT(refusal({{.sequence = sequence, .tokens = negative}}), HasSubstr("token -1 is not"));
  EXPECT_THAT(refusal({{.sequence = sequence, .tokens = beyond}}),
              HasSubstr(fmt::format("token {} is not in the model's vocabulary", beyond[0])));
  EXPECT_THAT(refusal({{.sequence = sequence,
                        .tokens = good,
                        .logits = LogitsWanted::kRange,
                        .logits_begin = 1,
                        .logits_end = 3}}),
              HasSubstr("logits of tokens [1, 3) are wanted of a span of 2"));
  EXPECT_NE(
      refusal({{.sequence = sequence, .tokens = good}, {.sequence = sequence, .tokens = good}}),
      "accepted");
}

}  // namespace
}  // namespace tq
