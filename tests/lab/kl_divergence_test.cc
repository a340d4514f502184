// SPDX-License-Identifier: Apache-2.0
// The file of reference log-probabilities, and divergence against it and in lockstep.
#include "lab/kl_divergence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "lab/compare.h"
#include "lab/perplexity.h"
#include "tests/lab/fake_logits.h"
#include "turboquant/base/error.h"

namespace tq::lab {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class KlDivergenceTest : public testing::Test {
 protected:
  KlDivergenceTest()
      : path_(fs::temp_directory_path() / ("tq_kld_test_" + std::to_string(getpid()))) {}
  ~KlDivergenceTest() override { fs::remove(path_); }

  void WriteBase(const TextWindows& windows, int vocabulary) {
    FakeLogits source(vocabulary, 0);
    KldBaseWriter writer(path_, windows, vocabulary);
    PerplexityOptions options;
    options.base = &writer;
    MeasurePerplexity(source, windows, pool_, options);
    writer.Finish();
  }
  std::string Refused() {
    try {
      KldBaseReader reader(path_);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  fs::path path_;
  ThreadPool pool_{2};
};

// Reads the file as its format is documented, without our reader.
TEST_F(KlDivergenceTest, FileHasTheDocumentedLayout) {
  const int vocabulary = 101;  // odd: rows are padded
  const TextWindows windows = FakeWindows(vocabulary, 24, 2, true);
  WriteBase(windows, vocabulary);
  std::ifstream in(path_, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(in)), {});
  ASSERT_EQ(bytes.size(), 8 + 12 + 48 * 4 + 2 * 11 * (2 * 51 + 4) * 2u);
  EXPECT_EQ(bytes.substr(0, 8), "_logits_");
  int32_t header[3];
  std::memcpy(header, bytes.data() + 8, 12);
  EXPECT_THAT(header, testing::ElementsAre(24, 101, 2));
  EXPECT_EQ(std::memcmp(bytes.data() + 20, windows.tokens.data(), 48 * 4), 0);

  // The first scored position of window 1 (row 11).
  const char* row = bytes.data() + 20 + 48 * 4 + 11 * (2 * 51 + 4) * 2;
  float scale, low;
  std::memcpy(&scale, row, 4);
  std::memcpy(&low, row + 4, 4);
  const auto logits = FakeLogits(vocabulary, 0).Row(windows.Input(1)[12], 12);
  double sum = 0;
  for (const float x : logits) sum += std::exp(static_cast<double>(x));
  for (size_t i = 0; i < logits.size(); ++i) {
    uint16_t code;
    std::memcpy(&code, row + 8 + 2 * i, 2);
    const double expected = logits[i] - std::log(sum);
    EXPECT_NEAR(scale * code + low, expected, 0.51 * scale + 2e-6) << i;
  }
}

TEST_F(KlDivergenceTest, AgainstItselfIsNothing) {
  const int vocabulary = 200;
  const TextWindows windows = FakeWindows(vocabulary, 64, 3, true);
  WriteBase(windows, vocabulary);
  KldBaseReader base(path_);
  EXPECT_EQ(base.windows().tokens, windows.tokens);
  FakeLogits source(vocabulary, 0);
  const DivergenceScores scores = MeasureDivergence(source, base, windows.bos, pool_, {});
  EXPECT_EQ(scores.size(), 3u * 31);
  EXPECT_NEAR(Mean(scores.kld).value, 0, 1e-5);
  EXPECT_NEAR(scores.ratio().value, 1, 1e-4);
  EXPECT_GT(scores.same_top_rate().value, 0.98);  // 16-bit codes may tie
}

TEST_F(KlDivergenceTest, FileAndLockstepAgree) {
  const int vocabulary = 500;
  const TextWindows windows = FakeWindows(vocabulary, 64, 3, true);
  WriteBase(windows, vocabulary);
  KldBaseReader base(path_);
  FakeLogits noisy(vocabulary, 0.3);
  const DivergenceScores from_file = MeasureDivergence(noisy, base, windows.bos, pool_, {});

  FakeLogits reference(vocabulary, 0), first(vocabulary, 0.3), second(vocabulary, 0);
  LogitsSource* candidates[] = {&first, &second};
  CompareOptions options;
  options.batch = 20;
  options.reference_bytes = 17 * vocabulary * sizeof(float);  // blocks of 17 rows
  std::vector<DivergenceScores> scores(2);
  for (int w = 0; w < windows.count; ++w)
    ASSERT_TRUE(CompareWindow(reference, candidates, windows, w, pool_, options, scores));
  ASSERT_EQ(scores[0].size(), from_file.size());
  EXPECT_LE(reference.most_rows(), 17);
  EXPECT_NEAR(Mean(scores[0].kld).value, Mean(from_file.kld).value, 2e-4);
  EXPECT_NEAR(scores[0].ratio().value, from_file.ratio().value, 1e-3);
  EXPECT_NEAR(scores[0].ratio().error, from_file.ratio().error, 1e-3);
  EXPECT_GT(Mean(scores[0].kld).value, 0.02);
  for (const float kld : scores[1].kld) EXPECT_NEAR(kld, 0, 1e-7);
  EXPECT_EQ(scores[1].same_top_rate().value, 1);
}

TEST_F(KlDivergenceTest, ScoresOfOnePositionMatchDouble) {
  // p = (3/4, 1/4), q = (1/2, 1/2), target 1.
  const float p[2] = {std::log(3.0f), 0.0f}, q[2] = {0.0f, 0.0f};
  DivergenceScores scores;
  scores.Resize(1);
  ScorePosition({p, std::log(4.0f), 0, -100.0f}, q, 2, 1, scores, 0);
  EXPECT_NEAR(scores.kld[0], 0.75 * std::log(1.5) + 0.25 * std::log(0.5), 1e-6);
  EXPECT_NEAR(scores.nll[0], std::log(2.0), 1e-6);
  EXPECT_NEAR(scores.nll_base[0], std::log(4.0), 1e-6);
  EXPECT_NEAR(scores.p_change[0], 0.25, 1e-6);
  EXPECT_EQ(scores.same_top[0], 1);
}

TEST_F(KlDivergenceTest, DamagedFilesAreRefused) {
  std::ofstream(path_) << "GGUF and more";
  EXPECT_THAT(Refused(), HasSubstr("is not a file of log-probabilities"));
  const TextWindows windows = FakeWindows(100, 24, 2);
  WriteBase(windows, 100);
  fs::resize_file(path_, fs::file_size(path_) - 1);
  EXPECT_THAT(Refused(), HasSubstr("it is truncated or damaged"));
  fs::resize_file(path_, 15);
  EXPECT_THAT(Refused(), HasSubstr("ends within its header"));
  fs::remove(path_);
  EXPECT_THAT(Refused(), HasSubstr("No such file"));
}

TEST_F(KlDivergenceTest, AnUnfinishedFileIsNotKept) {
  const TextWindows windows = FakeWindows(100, 24, 2);
  {
    KldBaseWriter writer(path_, windows, 100);
    EXPECT_THROW(writer.Finish(), Error);
  }
  EXPECT_FALSE(fs::exists(path_));
  EXPECT_FALSE(fs::exists(path_.string() + ".partial"));
}

TEST_F(KlDivergenceTest, AnotherVocabularyIsRefused) {
  WriteBase(FakeWindows(100, 24, 2), 100);
  KldBaseReader base(path_);
  FakeLogits source(101, 0);
  EXPECT_THROW(MeasureDivergence(source, base, -1, pool_, {}), Error);
}

}  // namespace
}  // namespace tq::lab
