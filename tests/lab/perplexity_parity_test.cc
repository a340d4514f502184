// SPDX-License-Identifier: Apache-2.0
// Perplexity of real models against an independent float32 forward pass
// (tests/data/perplexity.json). Prints what it measures.
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "lab/perplexity.h"
#include "lab/session_logits.h"
#include "tests/support/loaded_model.h"

namespace tq::lab {
namespace {

constexpr int kWindow = 512;

struct Case {
  const char* model;
  const char* type_k;
  const char* type_v;
  Precision precision;
  double tolerance;  // relative, of the value after the last window
};
void PrintTo(const Case& c, std::ostream* out) {
  *out << c.model << " " << c.type_k << "/" << c.type_v
       << (c.precision == Precision::kPrecise ? " precise" : " fast");
}

class PerplexityParity : public ::testing::TestWithParam<Case> {};

// The beginning of the text: about twice what the windows need.
std::string TextHead(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string text(20000, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(in.gcount()));
  return text;
}

TEST_P(PerplexityParity, RunningValues) {
  const Case& c = GetParam();
  const auto model = test::EnvFile("TQ_MODELS", std::string(c.model) + ".gguf");
  const auto text = test::EnvFile("TQ_DATA", "wiki.test.raw");
  if (!model) GTEST_SKIP() << "TQ_MODELS is not set";
  if (!text) GTEST_SKIP() << "TQ_DATA is not set";
  std::ifstream in(TQ_TEST_DATA "/perplexity.json");
  const auto expected = nlohmann::json::parse(in)[c.model].get<std::vector<double>>();

  EngineOptions engine_options;
  engine_options.model = *model;
  const auto engine = Engine::Load(engine_options);
  SessionOptions options;
  options.cache = MakePolicy(*engine, c.type_k, c.type_v);
  options.context = kWindow;
  options.chunk = kWindow;
  options.precision = c.precision;
  options.prefill = c.precision == Precision::kPrecise ? PrefillMode::kExact : PrefillMode::kFast;
  SessionLogits source(engine, options);
  const auto count = static_cast<int>(expected.size());
  const TextWindows windows = MakeWindows(engine->tokenizer().Encode(TextHead(*text), true, false),
                                          engine->tokenizer().special(), kWindow, count, count);

  std::vector<double> running;
  PerplexityOptions perplexity;
  perplexity.batch = kWindow;
  perplexity.on_window = [&](int, double value) {
    running.push_back(value);
    return true;
  };
  const ThreadPool pool(0);
  const PerplexityResult result = MeasurePerplexity(source, windows, pool, perplexity);
  ASSERT_EQ(running.size(), expected.size());
  std::printf("%s %s/%s %s:", c.model, c.type_k, c.type_v,
              c.precision == Precision::kPrecise ? "precise" : "fast");
  for (const double value : running) std::printf(" %.4f", value);
  std::printf(" (%+.3f %%)\n", 100 * (running.back() / expected.back() - 1));
  EXPECT_NEAR(running.back() / expected.back(), 1, c.tolerance);
  EXPECT_DOUBLE_EQ(running.back(), result.perplexity().value);
  if (c.tolerance > 0.001) return;  // a few hundred tokens alone have more noise than that
  for (size_t i = 0; i < running.size(); ++i) {
    EXPECT_NEAR(running[i] / expected[i], 1, c.tolerance) << "after window " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Quick, PerplexityParity,
                         testing::Values(Case{"smollm2", "f16", "f16", Precision::kPrecise, 0.001},
                                         Case{"smollm2", "f16", "f16", Precision::kFast, 0.01}));
INSTANTIATE_TEST_SUITE_P(
    Slow, PerplexityParity,
    testing::Values(Case{"gemma3-270m", "f16", "f16", Precision::kPrecise, 0.001},
                    Case{"gemma3-270m", "f16", "f16", Precision::kFast, 0.01},
                    Case{"qwen2.5-coder-1.5b", "f16", "f16", Precision::kPrecise, 0.001},
                    Case{"qwen2.5-coder-1.5b", "f16", "f16", Precision::kFast, 0.01},
                    // Compressed caches cost no more than this.
                    Case{"smollm2", "turbo4", "turbo3", Precision::kPrecise, 0.02},
                    Case{"smollm2", "turbo3", "turbo3", Precision::kPrecise, 0.04},
                    Case{"gemma3-270m", "turbo4", "turbo3", Precision::kPrecise, 0.02},
                    Case{"gemma3-270m", "turbo3", "turbo3", Precision::kPrecise, 0.04},
                    Case{"qwen2.5-coder-1.5b", "turbo4", "turbo3", Precision::kPrecise, 0.02},
                    Case{"qwen2.5-coder-1.5b", "turbo3", "turbo3", Precision::kPrecise, 0.04}));

}  // namespace
}  // namespace tq::lab
