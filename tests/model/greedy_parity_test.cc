// SPDX-License-Identifier: Apache-2.0
// Logits and greedy continuations of real models against an independent float32 forward pass
// (tests/data/greedy.json).
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/support/loaded_model.h"

namespace tq {
namespace {

class GreedyParity : public ::testing::TestWithParam<std::string> {};

TEST_P(GreedyParity, FirstLogitsAndContinuations) {
  const auto path = test::EnvFile("TQ_MODELS", GetParam() + ".gguf");
  if (!path) GTEST_SKIP() << "TQ_MODELS names no folder with " << GetParam() << ".gguf";
  std::ifstream in(TQ_TEST_DATA "/greedy.json");
  const nlohmann::json records = nlohmann::json::parse(in);
  test::LoadedModel model(GgufFile::Open(*path), 0);

  int seen = 0;
  for (const auto& record : records) {
    if (record["model"] != GetParam()) continue;
    SCOPED_TRACE(record["prompt"].get<std::string>());
    ++seen;
    const auto cache = model.MakeCache(Codec::kF32, Codec::kF32);
    const SequenceId sequence = cache->NewSequence();
    std::vector<float> logits =
        model.Run(*cache, sequence, record["prompt_ids"].get<std::vector<int32_t>>()).back();

    std::vector<int> order(logits.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int>(i);
    std::partial_sort(order.begin(), order.begin() + 5, order.end(),
                      [&](int a, int b) { return logits[a] > logits[b]; });
    for (int i = 0; i < 5; ++i) {
      const int expected_id = record["first_logits_top5"][i][0];
      const float expected = record["first_logits_top5"][i][1];
      EXPECT_NEAR(logits[expected_id], expected, 0.02) << "logit of token " << expected_id;
      EXPECT_NEAR(logits[order[i]], expected, 0.02) << "the top 5 differ at place " << i;
    }

    const auto expected_ids = record["greedy_ids"].get<std::vector<int32_t>>();
    for (size_t i = 0; i < expected_ids.size(); ++i) {
      const int32_t token = test::ArgMax(logits);
      if (token != expected_ids[i]) {
        EXPECT_LT(record["gap_to_second"][i].get<double>(), 0.1)
            << "token " << i << " is " << token << ", not " << expected_ids[i];
      }
      logits = model.Run(*cache, sequence, {&expected_ids[i], 1})
                   .back();  // on along the reference's path, also past ties
    }
  }
  EXPECT_EQ(seen, 3);
}

INSTANTIATE_TEST_SUITE_P(SmolLM2, GreedyParity, ::testing::Values("smollm2"));
INSTANTIATE_TEST_SUITE_P(Gemma3, GreedyParity, ::testing::Values("gemma3-270m"));
INSTANTIATE_TEST_SUITE_P(Qwen2, GreedyParity, ::testing::Values("qwen2.5-coder-1.5b"));

}  // namespace
}  // namespace tq
