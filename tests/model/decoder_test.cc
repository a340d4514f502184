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
// 8-bit activations: 0.033 is measured, 0.066 where AVX-512 takes one scale per 256 columns.
constexpr double kFastMean = 0.09;

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
  constexpr int kWhole[] = {kLength}, kSteps[] = {1, 33, 1, 2, 7, 64};
  EXPECT_LT(run(kWhole, PrefillMode::kExact, Precision::kPrecise).worst, kPreciseWorst);
  EXPECT_LT(run(kWhole, PrefillMode::kFast, Precision::kPrecise).worst, kPreciseWorst);
  EXPECT_LT(run(kSteps, PrefillMode::kExact, Precision::kPrecise).worst, kPreciseWorst);
  const double whole = run(kWhole, PrefillMode::kFast, Precision::kFast).mean;
  const double steps = run(kSteps, PrefillMode::kFast, Precision::kFast).mean;
  EXPECT_LT(whole, kFastMean);
  EXPECT_LT(steps, kFastMean);
}

INSTANTIATE_TEST_SUITE_P(All, DecoderTest, ::testing::ValuesIn(Cases()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace tq
