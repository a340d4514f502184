// SPDX-License-Identifier: Apache-2.0
// What ageing costs lies between its first and its last type, on a real model and text.
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

#include "tests/lab/simulated_model.h"
#include "tests/support/loaded_model.h"

namespace tq::lab {
namespace {

constexpr int kContext = 768;  // the second half is scored: 1 to 2 pages of it are old
constexpr int kErrorBlock = 32;

TEST(AgesQuality, LiesBetweenTheTypes) {
  const auto file = test::EnvFile("TQ_MODELS", "smollm2.gguf");
  const auto text_file = test::EnvFile("TQ_DATA", "wiki.test.raw");
  if (!file) GTEST_SKIP() << "TQ_MODELS names no folder with smollm2.gguf";
  if (!text_file) GTEST_SKIP() << "TQ_DATA names no folder with wiki.test.raw";
  std::string text(8 * kContext, '\0');
  std::ifstream(*text_file, std::ios::binary)
      .read(text.data(), static_cast<std::streamsize>(text.size()));
  EngineOptions options;
  options.model = *file;
  const auto engine = Engine::Load(options);
  const SimulatedModel model(engine, MakeWindows(engine->tokenizer().Encode(text, true, false),
                                                 engine->tokenizer().special(), kContext, 1, 1));
  CachePolicy aged = model.Policy("turbo3_tcq", "turbo3_tcq");
  aged.ages = {{256, Codec::kTurbo2Tcq, Codec::kTurbo2Tcq}};
  std::vector<std::unique_ptr<SessionLogits>> runs;
  runs.push_back(model.Product(model.Policy("turbo3_tcq", "turbo3_tcq")));
  runs.push_back(model.Product(aged));
  runs.push_back(model.Product(model.Policy("turbo2_tcq", "turbo2_tcq")));
  const std::vector<DivergenceScores> scores = model.Scores(std::move(runs));
  for (size_t i = 0; i + 1 < scores.size(); ++i) {
    const Estimate gain = BlockDifference(scores[i + 1].kld, scores[i].kld, kErrorBlock);
    std::printf("%.6f; to the next %+.6f +- %.6f\n", Mean(scores[i].kld).value, gain.value,
                gain.error);
    EXPECT_GT(gain.value, 2 * gain.error) << i;
  }
}

}  // namespace
}  // namespace tq::lab
