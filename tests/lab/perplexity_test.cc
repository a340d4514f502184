// SPDX-License-Identifier: Apache-2.0
#include "lab/perplexity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/lab/fake_logits.h"
#include "turboquant/base/error.h"

namespace tq::lab {
namespace {

double LogProb(const std::vector<float>& row, TokenId token) {
  double sum = 0;
  for (const float x : row) sum += std::exp(static_cast<double>(x));
  return row[static_cast<size_t>(token)] - std::log(sum);
}

TEST(WindowsTest, CutAsLlamaPerplexityDoes) {
  const TextWindows windows = FakeWindows(50, 32, 3, true);
  EXPECT_EQ(windows.count, 3);
  EXPECT_EQ(windows.first_scored(), 16);
  EXPECT_EQ(windows.scored(), 15);
  EXPECT_EQ(windows.Input(1)[0], 1);  // BOS in place of the first token
  EXPECT_EQ(windows.Input(1)[1], windows.tokens[33]);
  EXPECT_EQ(windows.Target(1, 16), windows.tokens[32 + 17]);
  EXPECT_NE(windows.tokens[32], 1);  // the text itself is unchanged
}

TEST(WindowsTest, TooShortATextIsRefusedWithNumbers) {
  try {
    MakeWindows(std::vector<TokenId>(700), SpecialTokens{}, 512, 0, 2);
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(),
                 "the text has 700 tokens; 1024 are needed for a context of 512: give a longer "
                 "text or a smaller -c");
  }
}

TEST(PerplexityTest, MatchesADirectSum) {
  const int vocabulary = 301;
  const TextWindows windows = FakeWindows(vocabulary, 33, 4, true);
  FakeLogits model(vocabulary, 0);
  double sum = 0;
  int count = 0;
  for (int w = 0; w < windows.count; ++w) {
    const auto input = windows.Input(w);
    for (int p = 16; p < 32; ++p, ++count)
      sum -= LogProb(model.Row(input[static_cast<size_t>(p)], p), windows.Target(w, p));
  }
  for (const int batch : {5, 16, 512}) {
    FakeLogits source(vocabulary, 0);
    PerplexityOptions options;
    options.batch = batch;
    std::vector<double> running;
    options.on_window = [&](int, double perplexity) {
      running.push_back(perplexity);
      return true;
    };
    const PerplexityResult result = MeasurePerplexity(source, windows, ThreadPool(2), options);
    ASSERT_EQ(result.nll.size(), static_cast<size_t>(count));
    EXPECT_NEAR(result.perplexity().value, std::exp(sum / count), 1e-4 * std::exp(sum / count));
    EXPECT_NEAR(running.back(), result.perplexity().value, 1e-6 * running.back());
    EXPECT_EQ(source.cleared(), 4);
    EXPECT_EQ(source.fed().size(), windows.tokens.size());
  }
}

TEST(PerplexityTest, EndsEarlyWithWhatThereIs) {
  const TextWindows windows = FakeWindows(100, 32, 4);
  FakeLogits source(100, 0);
  PerplexityOptions options;
  options.on_window = [](int done, double) { return done < 2; };
  const PerplexityResult result = MeasurePerplexity(source, windows, ThreadPool(1), options);
  EXPECT_EQ(result.windows_done, 2);
  EXPECT_EQ(result.nll.size(), 30u);
}

}  // namespace
}  // namespace tq::lab
