// SPDX-License-Identifier: Apache-2.0
// The fake-quantisation evaluator against the product on a real model and text, default policy.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <fstream>

#include "tests/lab/simulated_model.h"
#include "tests/support/loaded_model.h"

namespace tq::lab {
namespace {

constexpr int kContext = 576;
constexpr int kWindows = 8;      // one alone missed by chance on one instruction set in two
constexpr int kErrorBlock = 32;  // positions: half of a window is scored

std::string TextHead(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string text(8 * kContext * kWindows, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(in.gcount()));
  return text;
}

TEST(SimulationParity, AgreesWithTheProduct) {
  const auto file = test::EnvFile("TQ_MODELS", "smollm2.gguf");
  const auto text = test::EnvFile("TQ_DATA", "wiki.test.raw");
  if (!file) GTEST_SKIP() << "TQ_MODELS names no folder with smollm2.gguf";
  if (!text) GTEST_SKIP() << "TQ_DATA names no folder with wiki.test.raw";
  EngineOptions options;
  options.model = *file;
  const auto engine = Engine::Load(options);
  const SimulatedModel model(
      engine, MakeWindows(engine->tokenizer().Encode(TextHead(*text), true, false),
                          engine->tokenizer().special(), kContext, kWindows, kWindows));
  const std::string k(InfoOf(kDefaultKeyCodec).name), v(InfoOf(kDefaultValueCodec).name);
  const CachePolicy policy = model.Policy(k.c_str(), v.c_str());
  const auto [product, simulated] =
      model.Scores(model.Product(policy), model.Simulated(SimulateCache(model.spec(), policy)));
  const Estimate cost = BlockMean(product.kld, kErrorBlock),
                 difference = BlockDifference(simulated.kld, product.kld, kErrorBlock);
  std::printf("product %.6f +- %.6f, simulated - product %+.6f +- %.6f\n", cost.value, cost.error,
              difference.value, difference.error);
  EXPECT_GT(cost.value, 2e-4);  // there is something to agree on
  EXPECT_LT(std::abs(difference.value), 2 * difference.error);
  EXPECT_LT(difference.error, 0.25 * cost.value);  // and it can be told
}

}  // namespace
}  // namespace tq::lab
