// SPDX-License-Identifier: Apache-2.0
#include "lab/compare_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "tests/support/temp_folder.h"
#include "turboquant/base/error.h"

namespace tq::lab {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const ResultFacts kFacts = {{"model_id", "0123"}, {"context", "8"}};

DivergenceScores Scores(float seed) {
  DivergenceScores s;
  s.Resize(3);
  for (size_t i = 0; i < 3; ++i) {
    s.kld[i] = seed / 3 + static_cast<float>(i) * 1e-7f;
    s.nll[i] = seed * 7;
    s.nll_base[i] = 1.0f / 3;
    s.p_change[i] = -1e-9f * seed;
    s.same_top[i] = i % 2;
  }
  return s;
}

class CompareFileTest : public testing::Test {
 protected:
  std::string Refused(const ResultFacts& facts) const {
    try {
      CompareFile file(path_, facts, 3);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  }
  std::string Content() const {
    std::ostringstream text;
    text << std::ifstream(path_).rdbuf();
    return text.str();
  }

  testing_support::TempFolder folder_;
  fs::path path_ = folder_.path() / "results.jsonl";
};

TEST_F(CompareFileTest, ScoresComeBackToTheBit) {
  {
    CompareFile file(path_, kFacts, 3);
    file.Add("turbo4", 0, Scores(1));
    file.Add("turbo4", 2, Scores(2));
    file.Add("turbo3 +bare", 0, Scores(0.1f));
  }
  CompareFile file(path_, kFacts, 3);
  EXPECT_EQ(file.Find("turbo4", 1), nullptr);
  EXPECT_EQ(file.Find("turbo3", 0), nullptr);
  ASSERT_NE(file.Find("turbo3 +bare", 0), nullptr);
  const DivergenceScores want = Scores(2), *got = file.Find("turbo4", 2);
  ASSERT_NE(got, nullptr);
  EXPECT_EQ(got->kld, want.kld);
  EXPECT_EQ(got->nll, want.nll);
  EXPECT_EQ(got->nll_base, want.nll_base);
  EXPECT_EQ(got->p_change, want.p_change);
  EXPECT_EQ(got->same_top, want.same_top);
}

TEST_F(CompareFileTest, ALineThatWasCutOffIsDropped) {
  {
    CompareFile file(path_, kFacts, 3);
    file.Add("a", 0, Scores(1));
    file.Add("b", 0, Scores(2));
  }
  const std::string whole = Content();
  fs::resize_file(path_, whole.size() - 1);
  {
    CompareFile file(path_, kFacts, 3);
    EXPECT_NE(file.Find("a", 0), nullptr);
    EXPECT_EQ(file.Find("b", 0), nullptr);
    file.Add("b", 0, Scores(2));
  }
  EXPECT_EQ(Content(), whole);
}

TEST_F(CompareFileTest, OtherRunsAreRefusedByWhatDiffers) {
  { CompareFile file(path_, kFacts, 3); }
  EXPECT_EQ(Refused(kFacts), "accepted");
  EXPECT_THAT(Refused({{"model_id", "0123"}, {"context", "16"}}),
              HasSubstr("holds results of context 8, this run has 16"));
}

TEST_F(CompareFileTest, ForeignAndDamagedFilesAreRefused) {
  std::ofstream(path_) << "{\"a\":1}\n";
  EXPECT_THAT(Refused(kFacts), HasSubstr("not a file of `compare` results"));
  fs::remove(path_);
  {
    CompareFile file(path_, kFacts, 3);
    DivergenceScores longer = Scores(1);
    longer.Resize(4);
    file.Add("a", 0, longer);
  }
  EXPECT_THAT(Refused(kFacts), HasSubstr("line 2"));
}

}  // namespace
}  // namespace tq::lab
