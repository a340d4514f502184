// SPDX-License-Identifier: Apache-2.0
// What ageing costs on a real model and text.
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

#include "tests/lab/simulated_model.h"
#include "tests/support/loaded_model.h"

namespace tq::lab {
namespace {

constexpr int kContext = 768;  // the second half is scored: 1 to 2 pages before it are old

TEST(AgesQuality, FewerBitsCostMore) {
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
  const CachePolicy three = model.Policy("turbo3_tcq", "turbo3_tcq");
  CachePolicy aged = three, from_eight = model.Policy("turbo8", "turbo8");
  aged.ages = from_eight.ages = {{256, Codec::kTurbo2Tcq, Codec::kTurbo2Tcq}};
  CachePolicy window = model.Policy("turbo2_tcq", "turbo2_tcq");
  window.window = 256;
  std::vector<std::unique_ptr<SessionLogits>> runs;
  for (const CachePolicy& policy : {three, aged, from_eight, window})
    runs.push_back(model.Product(policy));
  const std::vector<DivergenceScores> scores = model.Scores(std::move(runs));
  // Not by means: few positions make them (+.027 +- .015).
  size_t dearer = 0;
  for (size_t i = 0; i < scores[0].kld.size(); ++i) {
    dearer += scores[1].kld[i] > scores[0].kld[i] ? 1u : 0u;
  }
  const double share = static_cast<double>(dearer) / static_cast<double>(scores[0].kld.size());
  std::printf("turbo3_tcq %.6f; 2 bits from 256 on %.6f, more at %.0f %% of the positions\n",
              Mean(scores[0].kld).value, Mean(scores[1].kld).value, 100 * share);
  EXPECT_GT(share, .55);  // two standard errors above one half
  // An age of 8-bit tokens is a window.
  EXPECT_EQ(scores[2].kld, scores[3].kld);
}

}  // namespace
}  // namespace tq::lab
