// SPDX-License-Identifier: Apache-2.0
// Divergence of 64K positions over a vocabulary of 152K: all logits of one run would be 37 GiB. The
// product's path keeps a block of them.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cmath>
#include <cstring>

#include "lab/compare.h"
#include "turboquant/base/random.h"

namespace tq::lab {
namespace {

constexpr int kVocabulary = 151936;  // Qwen's
constexpr int kScored = 65536;
constexpr int kContext = 2 * kScored + 2;
constexpr int64_t kMostKib = int64_t{2} << 20;

// Made-up logits that cost little more than their bytes: pieces of one long row of noise.
class CheapLogits : public LogitsSource {
 public:
  explicit CheapLogits(float noise) : noise_(noise) {
    Random random(1);
    for (float& x : values_) x = static_cast<float>(3 * random.Gaussian());
  }
  int vocabulary() const override { return kVocabulary; }
  void Clear() override { position_ = 0; }
  void Feed(std::span<const TokenId> tokens, int begin, int end, LogitsSink& sink) override {
    constexpr int kBlock = 16;
    for (int at = begin; at < end; at += kBlock) {
      const int rows = std::min(kBlock, end - at);
      for (int r = 0; r < rows; ++r)
        MakeRow(position_ + at + r, rows_.data() + static_cast<size_t>(r) * kVocabulary);
      sink.Rows(0, at, MatrixView<const float>(rows_.data(), rows, kVocabulary));
    }
    position_ += static_cast<int>(tokens.size());
  }
  void FeedAside(std::span<const TokenId>, int, int, LogitsSink&) override { FAIL(); }

  void MakeRow(int position, float* row) const {
    const float* base = values_.data() + static_cast<uint32_t>(position) * 2654435761u % kShifts;
    if (noise_ == 0) {
      std::memcpy(row, base, kVocabulary * sizeof(float));
      return;
    }
    const float* other = values_.data() + static_cast<uint32_t>(position) * 40503u % kShifts;
    for (int i = 0; i < kVocabulary; ++i) row[i] = base[i] + noise_ * other[i];
  }

 private:
  static constexpr uint32_t kShifts = 100003;
  float noise_;
  std::vector<float> values_ = std::vector<float>(kVocabulary + kShifts);
  std::vector<float> rows_ = std::vector<float>(size_t{16} * kVocabulary);
  int position_ = 0;
};

double ExactDivergence(const std::vector<float>& p, const std::vector<float>& q) {
  double sum_p = 0, sum_q = 0, divergence = 0;
  for (const float x : p) sum_p += std::exp(double{x});
  for (const float x : q) sum_q += std::exp(double{x});
  for (size_t i = 0; i < p.size(); ++i)
    divergence += std::exp(double{p[i]}) / sum_p *
                  (double{p[i]} - std::log(sum_p) - double{q[i]} + std::log(sum_q));
  return divergence;
}

TEST(DeepDivergenceTest, SixtyFourThousandPositionsFitInTwoGib) {
  TextWindows windows;
  windows.context = kContext;
  windows.count = 1;
  for (int i = 0; i < kContext; ++i) windows.tokens.push_back(i % kVocabulary);
  ASSERT_EQ(windows.scored(), kScored);
  CheapLogits reference(0), run(0.02f);
  LogitsSource* const candidates[] = {&run};
  DivergenceScores scores;
  ASSERT_TRUE(CompareWindow(reference, candidates, windows, 0, ThreadPool(2), {}, {&scores, 1}));
  ASSERT_EQ(scores.size(), static_cast<size_t>(kScored));

  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  EXPECT_LT(usage.ru_maxrss, kMostKib);
  RecordProperty("peak_mib", static_cast<int>(usage.ru_maxrss / 1024));
  std::printf("peak memory %ld MiB, mean KLD %.6f\n", usage.ru_maxrss / 1024,
              Mean(scores.kld).value);

  std::vector<float> p(kVocabulary), q(kVocabulary);
  for (const int scored : {0, 1, 40000, kScored - 1}) {
    reference.MakeRow(windows.first_scored() + scored, p.data());
    run.MakeRow(windows.first_scored() + scored, q.data());
    const double exact = ExactDivergence(p, q);
    EXPECT_GT(exact, 1e-5);
    EXPECT_NEAR(scores.kld[static_cast<size_t>(scored)], exact, 1e-3 * exact + 1e-7) << scored;
  }
}

}  // namespace
}  // namespace tq::lab
