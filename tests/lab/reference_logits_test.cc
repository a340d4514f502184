// SPDX-License-Identifier: Apache-2.0
// Runs compared with a reference in memory: the same figures as compared in lockstep.
#include "lab/reference_logits.h"

#include <gmock/gmock.h>

#include "lab/compare.h"
#include "tests/lab/fake_logits.h"

namespace tq::lab {
namespace {

constexpr int kVocabulary = 40, kContext = 64, kWindows = 3;

struct Fixture {
  ThreadPool pool{2};
  TextWindows windows = FakeWindows(kVocabulary, kContext, kWindows, true);
  FakeLogits reference{kVocabulary, 0};
  FakeLogits run{kVocabulary, 0.3};

  std::vector<float> InLockstep() {
    LogitsSource* const candidates[] = {&run};
    std::vector<DivergenceScores> scores(1);
    for (int window = 0; window < windows.count; ++window)
      EXPECT_TRUE(CompareWindow(reference, candidates, windows, window, pool, {}, scores));
    return scores[0].kld;
  }
};

TEST(ReferenceLogitsTest, AsInLockstep) {
  Fixture f;
  const ReferenceLogits kept(f.reference, f.windows, f.pool, {.batch = 24, .on_fed = {}});
  EXPECT_EQ(kept.stride(), 1);
  EXPECT_EQ(kept.Divergence(f.run), f.InLockstep());
  EXPECT_THAT(kept.Divergence(f.reference), testing::Each(testing::FloatNear(0, 1e-6f)));
}

TEST(ReferenceLogitsTest, KeepsWhatFitsEvenlySpread) {
  Fixture f;
  int64_t fed = 0;
  const ReferenceLogits kept(f.reference, f.windows, f.pool,
                             {.batch = 24,
                              .bytes = 64 * kVocabulary * sizeof(float),
                              .on_fed = [&](int64_t tokens) { fed += tokens; }});
  EXPECT_EQ(fed, kWindows * kContext);
  EXPECT_EQ(kept.stride(), 2);
  const std::vector<float> all = f.InLockstep(), part = kept.Divergence(f.run);
  const auto scored = static_cast<size_t>(f.windows.scored());
  ASSERT_EQ(part.size(), kWindows * ((scored + 1) / 2));
  for (size_t i = 0, w = 0; w < kWindows; ++w) {
    for (size_t s = 0; s < scored; s += 2, ++i) EXPECT_EQ(part[i], all[w * scored + s]);
  }
}

}  // namespace
}  // namespace tq::lab
