// SPDX-License-Identifier: Apache-2.0
// Needles lie where they should, are found by who reads the text and by nobody else.
#include "lab/needle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "lab/needle_file.h"
#include "tests/lab/byte_tokenizer.h"
#include "tests/support/temp_folder.h"
#include "turboquant/base/error.h"

namespace tq::lab {
namespace {

using testing::HasSubstr;

constexpr int kContext = 2048;

std::string Prose() {
  std::string text;
  for (int i = 0; i < 500; ++i) text += "It was a dark and stormy night; rain fell. ";
  return text;
}

// Continues a text as it went on after the longest piece of it that ends as it does: a reader who
// remembers everything and understands nothing.
class Reader : public LogitsSource {
 public:
  int vocabulary() const override { return 257; }
  void Clear() override { text_.clear(); }
  void Feed(std::span<const TokenId> tokens, int begin, int end, LogitsSink& sink) override {
    for (int i = 0; i < static_cast<int>(tokens.size()); ++i) {
      text_.push_back(tokens[static_cast<size_t>(i)]);
      if (i < begin || i >= end) continue;
      std::vector<float> logits(257, 0.0f);
      logits[static_cast<size_t>(Next())] = 10;
      sink.Rows(0, i, MatrixView<const float>(logits.data(), 1, 257));
    }
  }
  void FeedAside(std::span<const TokenId> tokens, int begin, int end, LogitsSink& sink) override {
    const size_t before = text_.size();
    Feed(tokens, begin, end, sink);
    text_.resize(before);
  }
  size_t length() const { return text_.size(); }

 private:
  TokenId Next() const {
    size_t longest = 0;
    TokenId next = 0;
    for (size_t at = 1; at < text_.size(); ++at) {
      size_t same = 0;
      while (same < at && text_[at - 1 - same] == text_[text_.size() - 1 - same]) ++same;
      if (same > longest) longest = same, next = text_[at];
    }
    return next;
  }
  std::vector<TokenId> text_;
};

class NeedleTest : public testing::Test {
 protected:
  static size_t Count(const std::string& text, const std::string& what) {
    size_t count = 0;
    for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1))
      ++count;
    return count;
  }
  std::vector<NeedleScore> Ask(const NeedlePrompt& prompt) {
    return AskNeedles(reader_, prompt, tokenizer_, {.batch = 100, .on_fed = {}});
  }

  ByteTokenizer tokenizer_;
  NeedleMaker maker_{tokenizer_, Prose(), 5, 1};
  Reader reader_;
};

TEST_F(NeedleTest, LieAtTheirDepthsInWholePages) {
  for (const NeedleTaskInfo& info : kNeedleTasks) {
    SCOPED_TRACE(info.name);
    const std::vector<NeedlePrompt> prompts = maker_.Prompts(info.task, kContext, 3);
    ASSERT_EQ(prompts.size(), info.task == NeedleTask::kSingle ? 5u : 1u);
    std::vector<int> asked;
    for (const NeedlePrompt& prompt : prompts) {
      EXPECT_EQ(prompt.haystack.size(), kContext - 128u);
      const std::string text = tokenizer_.Decode(prompt.haystack);
      EXPECT_EQ(Count(text, "magic number"), info.task == NeedleTask::kSingle ? 1u : 5u);
      for (const NeedleQuestion& question : prompt.questions) {
        EXPECT_LT(question.text.size() + question.reply.size() + kNeedleSpareTokens, 128u);
        for (const NeedleAnswer& answer : question.answers) {
          asked.push_back(answer.depth);
          EXPECT_EQ(tokenizer_.Decode(std::span(question.reply)
                                          .subspan(static_cast<size_t>(answer.begin),
                                                   static_cast<size_t>(answer.end - answer.begin))),
                    answer.value);
          ASSERT_EQ(Count(text, answer.value), 1u);
          EXPECT_NEAR(static_cast<double>(text.find(answer.value)) / kContext,
                      maker_.Depth(answer.depth), 0.08);
          // A sentence of its own.
          const size_t begin = text.rfind('.', text.find(answer.value));
          EXPECT_THAT(text.substr(begin, 5), testing::AnyOf(". The", ". One"));
        }
      }
    }
    EXPECT_THAT(asked, testing::ElementsAre(0, 1, 2, 3, 4));
  }
}

TEST_F(NeedleTest, TheSameComesFromTheSameSeed) {
  const auto text = [&](uint64_t seed, int trial) {
    const NeedleMaker maker(tokenizer_, Prose(), 5, seed);
    return tokenizer_.Decode(maker.Prompts(NeedleTask::kMultiKey, kContext, trial)[0].haystack);
  };
  EXPECT_EQ(text(1, 0), text(1, 0));
  EXPECT_NE(text(1, 0), text(1, 1));
  EXPECT_NE(text(1, 0), text(2, 0));
}

TEST_F(NeedleTest, BeginWithBosWhereTheModelWantsIt) {
  const ByteTokenizer with_bos(true);
  const NeedleMaker maker(with_bos, Prose(), 1, 1);
  const NeedlePrompt prompt = maker.Prompts(NeedleTask::kSingle, kContext, 0)[0];
  EXPECT_EQ(prompt.haystack[0], ByteTokenizer::kBos);
  EXPECT_EQ(std::ranges::count(prompt.haystack, ByteTokenizer::kBos), 1);
  EXPECT_EQ(prompt.haystack.size(), kContext - 128u);
}

TEST_F(NeedleTest, AShortTextRepeats) {
  const NeedleMaker maker(tokenizer_, "All work and no play. ", 2, 1);
  const NeedlePrompt prompt = maker.Prompts(NeedleTask::kMultiKey, kContext, 0)[0];
  EXPECT_GT(Count(tokenizer_.Decode(prompt.haystack), "All work and no play. "), 50u);
}

TEST_F(NeedleTest, WhatDoesNotFitIsRefused) {
  const auto refusal = [&](const auto& make) {
    try {
      make();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  EXPECT_THAT(refusal([&] { maker_.Prompts(NeedleTask::kMultiKey, 512, 0); }),
              HasSubstr("a context of 768 tokens at least"));
  EXPECT_EQ(maker_.Prompts(NeedleTask::kMultiKey, 768, 0).size(), 1u);
  EXPECT_THAT(refusal([&] { NeedleMaker(tokenizer_, "", 5, 1); }), HasSubstr("empty"));
  const NeedleMaker many(tokenizer_, Prose(), 12, 1);
  EXPECT_THAT(refusal([&] { many.Prompts(NeedleTask::kMultiValue, kContext, 0); }),
              HasSubstr("fewer depths"));
  EXPECT_THAT(refusal([&] { ParseNeedleTask("multikey"); }), HasSubstr("multi-key"));
}

TEST_F(NeedleTest, WhoReadsFindsThem) {
  for (const NeedleTask task : {NeedleTask::kSingle, NeedleTask::kMultiKey}) {
    for (const NeedlePrompt& prompt : maker_.Prompts(task, kContext, 0)) {
      const std::vector<NeedleScore> scores = Ask(prompt);
      ASSERT_EQ(scores.size(), prompt.questions.size());
      for (const NeedleScore& score : scores) {
        EXPECT_TRUE(score.found);
        EXPECT_EQ(score.rank, 1);
        EXPECT_NEAR(score.log_prob, -7 * std::log(1 + 256 * std::exp(-10.0)), 1e-3);
      }
      EXPECT_EQ(reader_.length(), prompt.haystack.size());  // questions are forgotten
    }
  }
}

TEST_F(NeedleTest, WithoutTheNeedleNobodyFindsIt) {
  NeedlePrompt prompt = maker_.Prompts(NeedleTask::kMultiKey, kContext, 0)[0];
  const NeedlePrompt other = maker_.Prompts(NeedleTask::kMultiKey, kContext, 1)[0];
  prompt.haystack = other.haystack;
  for (const NeedleScore& score : Ask(prompt)) {
    EXPECT_FALSE(score.found);
    EXPECT_GT(score.rank, 1);
    EXPECT_LT(score.log_prob, -10);
  }
}

// Answers whatever it is asked with a text of its own.
class Talker : public LogitsSource {
 public:
  explicit Talker(std::string speech) : speech_(std::move(speech)) {}
  int vocabulary() const override { return 257; }
  void Clear() override { said_ = 0; }
  void Feed(std::span<const TokenId>, int begin, int end, LogitsSink& sink) override {
    for (int i = begin; i < end; ++i) {
      std::vector<float> logits(257, 0.0f);
      logits[static_cast<unsigned char>(said_ < speech_.size() ? speech_[said_++] : ' ')] = 10;
      sink.Rows(0, i, MatrixView<const float>(logits.data(), 1, 257));
    }
  }
  void FeedAside(std::span<const TokenId> tokens, int begin, int end, LogitsSink& sink) override {
    const size_t before = said_;
    Feed(tokens, begin, end, sink);
    said_ = before;
  }

 private:
  std::string speech_;
  size_t said_ = 0;
};

TEST_F(NeedleTest, SeveralValuesMayComeInAnyOrder) {
  const NeedlePrompt prompt = maker_.Prompts(NeedleTask::kMultiValue, kContext, 0)[0];
  const std::vector<NeedleAnswer>& answers = prompt.questions[0].answers;
  Talker talker(answers[3].value + ", 1111111, " + answers[1].value);
  const std::vector<NeedleScore> scores = AskNeedles(talker, prompt, tokenizer_, {});
  ASSERT_EQ(scores.size(), 5u);
  for (const NeedleScore& score : scores)
    EXPECT_EQ(score.found, score.depth == 1 || score.depth == 3) << score.depth;
}

TEST(NeedleSummaryTest, CountsAndCompares) {
  std::vector<NeedleScore> a, b;
  for (int i = 0; i < 40; ++i) {
    a.push_back({.depth = i % 2, .log_prob = -1.0, .rank = 1, .found = true});
    b.push_back({.depth = i % 2, .log_prob = -2.0 - i % 2, .rank = 1 + i % 4, .found = i % 4 == 0});
  }
  const NeedleSummary summary = SummariseNeedles(b);
  EXPECT_EQ(summary.found, 10);
  EXPECT_EQ(summary.asked, 40);
  EXPECT_DOUBLE_EQ(summary.median_rank, 2.5);
  EXPECT_DOUBLE_EQ(summary.log_prob.value, -2.5);
  const NeedleDifference difference = CompareNeedles(b, a, 2);
  EXPECT_DOUBLE_EQ(difference.share.value, -0.75);
  EXPECT_DOUBLE_EQ(difference.log_prob.value, -1.5);
  EXPECT_DOUBLE_EQ(difference.log_prob.error, 0);  // every block of two differs by as much
  EXPECT_GT(difference.share.error, 0);
}

TEST(NeedleResultsTest, ComeBackFromTheFile) {
  const testing_support::TempFolder folder;
  const auto path = folder.path() / "needles.jsonl";
  const NeedleTrial trial{NeedleTask::kMultiValue, 2048, 7};
  {
    NeedleResults results(path, {{"seed", "1"}});
    EXPECT_EQ(results.Find("turbo3", trial), nullptr);
    results.Add("turbo3", trial,
                {{.depth = 2, .log_prob = -1.0 / 3, .rank = 5, .found = false},
                 {.depth = 4, .log_prob = -8, .rank = 1, .found = true}});
  }
  const NeedleResults results(path, {{"seed", "1"}});
  const auto* scores = results.Find("turbo3", trial);
  ASSERT_NE(scores, nullptr);
  ASSERT_EQ(scores->size(), 2u);
  EXPECT_EQ((*scores)[0].log_prob, -1.0 / 3);
  EXPECT_EQ((*scores)[0].rank, 5);
  EXPECT_TRUE((*scores)[1].found);
  EXPECT_EQ(results.Find("turbo3", {NeedleTask::kMultiKey, 2048, 7}), nullptr);
  EXPECT_EQ(results.Find("turbo3 +bare", trial), nullptr);
  EXPECT_THROW(NeedleResults(path, {{"seed", "2"}}), Error);
}

}  // namespace
}  // namespace tq::lab
