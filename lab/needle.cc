// SPDX-License-Identifier: Apache-2.0
#include "lab/needle.h"

#include <algorithm>

#include "lab/likeliest.h"
#include "lab/row_math.h"
#include "turboquant/base/error.h"

namespace tq::lab {
namespace {

struct TokenScore {
  double log_prob;
  int rank;
  TokenId likeliest;
};

TokenScore ScoreToken(MatrixView<const float> logits, int64_t row, TokenId token) {
  const float* x = logits.row(row);
  const SoftmaxStats stats = GetRowMath().softmax(x, logits.cols);
  const float own = x[token];
  // What is no number is likelier than nothing.
  const auto above =
      std::count_if(x, x + logits.cols, [&](float other) { return !(other <= own); });
  return {stats.LogProb(own), static_cast<int>(above) + 1, static_cast<TokenId>(stats.argmax)};
}

// Each row against the token that should follow.
struct ReplySink : LogitsSink {
  std::span<const TokenId> reply;
  std::vector<TokenScore> scores;
  void Rows(int, int, MatrixView<const float> logits) override {
    for (int64_t r = 0; r < logits.rows; ++r)
      scores.push_back(ScoreToken(logits, r, reply[scores.size()]));
  }
};

std::string Continue(LogitsSource& source, std::vector<TokenId> text, int tokens,
                     const Tokenizer& tokenizer) {
  std::vector<TokenId> generated;
  LikeliestSink last;
  for (int i = 0; i < tokens; ++i) {
    FeedText(source, text, static_cast<int>(text.size()), &last, {});
    generated.push_back(last.token);
    text = {last.token};
  }
  return tokenizer.Decode(generated);
}

}  // namespace

std::vector<NeedleScore> AskNeedles(LogitsSource& source, const NeedlePrompt& prompt,
                                    const Tokenizer& tokenizer, const NeedleOptions& options) {
  source.Clear();
  FeedText(source, prompt.haystack, options.batch, nullptr, options.on_fed);
  std::vector<NeedleScore> scores;
  for (const NeedleQuestion& question : prompt.questions) {
    std::vector<TokenId> tokens = question.text;
    tokens.insert(tokens.end(), question.reply.begin(), question.reply.end());
    ReplySink sink;
    sink.reply = question.reply;
    source.FeedAside(tokens, static_cast<int>(question.text.size()) - 1,
                     static_cast<int>(tokens.size()) - 1, sink);
    for (const NeedleAnswer& answer : question.answers) {
      NeedleScore score{.depth = answer.depth, .rank = 1, .found = true};
      for (int i = answer.begin; i < answer.end; ++i) {
        const TokenScore& token = sink.scores[static_cast<size_t>(i)];
        score.log_prob += token.log_prob;
        score.rank = std::max(score.rank, token.rank);
        score.found = score.found && token.likeliest == question.reply[static_cast<size_t>(i)];
      }
      scores.push_back(score);
    }
    if (options.on_fed) options.on_fed(static_cast<int64_t>(tokens.size()));
  }
  // Several values may come in any order. Nothing is asked afterwards.
  const NeedleQuestion& last = prompt.questions.back();
  if (last.answers.size() > 1) {
    TQ_CHECK(prompt.questions.size() == 1);
    const std::string text = Continue(
        source, last.text, static_cast<int>(last.reply.size()) + kNeedleSpareTokens, tokenizer);
    for (size_t i = 0; i < scores.size(); ++i)
      scores[i].found = text.find(last.answers[i].value) != std::string::npos;
  }
  return scores;
}

NeedleSummary SummariseNeedles(std::span<const NeedleScore> scores) {
  NeedleSummary summary;
  summary.asked = static_cast<int64_t>(scores.size());
  if (scores.empty()) return summary;
  std::vector<float> log_probs, ranks;
  for (const NeedleScore& score : scores) {
    summary.found += score.found;
    log_probs.push_back(static_cast<float>(score.log_prob));
    ranks.push_back(static_cast<float>(score.rank));
  }
  summary.log_prob = Mean(log_probs);
  summary.median_rank = Percentile(Sorted(ranks), 0.5);
  return summary;
}

NeedleDifference CompareNeedles(std::span<const NeedleScore> a, std::span<const NeedleScore> b,
                                int block) {
  const auto of = [](std::span<const NeedleScore> scores, const auto& get) {
    std::vector<float> values;
    for (const NeedleScore& score : scores) values.push_back(static_cast<float>(get(score)));
    return values;
  };
  const auto difference = [&](const auto& get) {
    return BlockDifference(of(a, get), of(b, get), block);
  };
  return {difference([](const NeedleScore& s) { return s.found ? 1.0 : 0.0; }),
          difference([](const NeedleScore& s) { return s.log_prob; })};
}

}  // namespace tq::lab
