// SPDX-License-Identifier: Apache-2.0
// The generation loop on a small random model, whose tokens are bytes: why it ends, what it
// delivers, and that it can go on.
#include "turboquant/engine/generate.h"

#include <gmock/gmock.h>

#include <limits>

#include "tests/engine/tiny_engine.h"
#include "turboquant/base/error.h"

namespace tq {
namespace {

using testing::Each;

constexpr float kNever = -std::numeric_limits<float>::infinity();
constexpr TokenId kEnd = 256 + 5;  // of the tiny vocabulary

std::shared_ptr<const Engine> TheEngine() {
  static const std::shared_ptr<const Engine> engine = test::LoadTinyEngine();
  return engine;
}

// Draws of these tokens only, all likely.
SamplerSpec Among(const std::vector<TokenId>& allowed, uint64_t seed = 1) {
  SamplerSpec spec{.temperature = 5, .top_k = 0, .top_p = 1, .min_p = 0, .logit_bias = {}};
  spec.seed = seed;
  for (TokenId id = 0; id < TheEngine()->tokenizer().size(); ++id) {
    if (std::ranges::find(allowed, id) == allowed.end()) spec.logit_bias[id] = kNever;
  }
  return spec;
}

SamplerSpec Letters(const std::string& letters, uint64_t seed = 1) {
  std::vector<TokenId> allowed;
  for (const char c : letters) allowed.push_back(static_cast<unsigned char>(c));
  return Among(allowed, seed);
}

struct Talk {
  explicit Talk(const SamplerSpec& spec, int64_t context = 2048)
      : sampler(spec),
        session(TheEngine(), test::ExactOptions(*TheEngine(), "turbo4", "turbo3", context)) {
    logits = session.Append(prompt);
  }
  GenerateResult Go(const GenerateOptions& options) {
    pieces.clear();
    GenerateResult result =
        Generate(session, sampler, logits, options, [this](std::string_view piece) {
          pieces.emplace_back(piece);
          return static_cast<int>(pieces.size()) != cancel_after;
        });
    std::string together;
    for (const std::string& piece : pieces) together += piece;
    EXPECT_EQ(together, result.text);
    return result;
  }
  // Goes on where the last Go ended.
  void Enter(const GenerateResult& result) { logits = session.Append({&result.tokens.back(), 1}); }

  std::vector<TokenId> prompt = test::RandomTokens(*TheEngine(), 10, 3);
  Sampler sampler;
  Session session;
  std::span<const float> logits;
  std::vector<std::string> pieces;
  int cancel_after = -1;
};

TEST(Generate, EndsAfterSoManyTokens) {
  for (const int64_t n : {0, 1, 7}) {
    Talk talk(Letters("abc"));
    const GenerateResult result = talk.Go({.max_tokens = n, .stop_strings = {}});
    EXPECT_EQ(result.reason, StopReason::kMaxTokens);
    EXPECT_EQ(result.tokens.size(), static_cast<size_t>(n));
    EXPECT_EQ(result.text.size(), static_cast<size_t>(n));
    EXPECT_EQ(talk.session.length(), 10 + std::max<int64_t>(n - 1, 0));  // the last one is left
    EXPECT_EQ(result.decode_seconds > 0, n > 1);
  }
}

TEST(Generate, EndsWithTheReply) {
  Talk talk(Among({'a', kEnd}));
  const GenerateResult result = talk.Go({.stop_strings = {}});
  EXPECT_EQ(result.reason, StopReason::kEndOfGeneration);
  EXPECT_EQ(result.tokens.back(), kEnd);
  EXPECT_EQ(result.text, std::string(result.tokens.size() - 1, 'a'));

  Talk endless(Among({'a', kEnd}));
  const GenerateResult more =
      endless.Go({.max_tokens = 40, .stop_strings = {}, .ignore_eos = true, .show_special = true});
  EXPECT_EQ(more.text, std::string(40, 'a'));
}

TEST(Generate, NeverChoosesPaddingOfTheEmbeddings) {
  ASSERT_GT(TheEngine()->spec().vocabulary, TheEngine()->tokenizer().size());
  SamplerSpec flat{.temperature = 1e6f, .top_k = 0, .top_p = 1, .min_p = 0, .logit_bias = {}};
  Talk talk(flat);
  const GenerateResult result =
      talk.Go({.max_tokens = 500, .stop_strings = {}, .ignore_eos = true});
  EXPECT_THAT(result.tokens, Each(testing::Lt(TheEngine()->tokenizer().size())));
}

TEST(Generate, EndsBeforeAStopString) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    const std::string text =
        Talk(Letters("ab", seed)).Go({.max_tokens = 60, .stop_strings = {}}).text;
    const std::string stop = text.substr(20, 6);
    Talk talk(Letters("ab", seed));
    const GenerateResult result = talk.Go({.max_tokens = 60, .stop_strings = {"xyz", stop}});
    EXPECT_EQ(result.reason, StopReason::kStopString);
    EXPECT_EQ(result.text, text.substr(0, text.find(stop)));
    EXPECT_EQ(result.tokens.size(), text.find(stop) + stop.size());
    // Cut short within what might have become the stop: nothing is lost.
    const int64_t cut = static_cast<int64_t>(text.find(stop) + stop.size()) - 1;
    EXPECT_EQ(Talk(Letters("ab", seed)).Go({.max_tokens = cut, .stop_strings = {stop}}).text,
              text.substr(0, static_cast<size_t>(cut)));
  }
}

TEST(Generate, DeliversWholeCharacters) {
  Talk talk(Letters("a\xC3\xA9"));  // two of them are halves of a character
  const GenerateResult result = talk.Go({.max_tokens = 200, .stop_strings = {}});
  std::string bytes;
  for (const TokenId token : result.tokens) bytes += TheEngine()->tokenizer().TokenBytes(token);
  EXPECT_THAT(bytes, testing::HasSubstr("\xC3\xA9"));
  EXPECT_THAT(talk.pieces, testing::Contains("\xC3\xA9"));
  for (const std::string& piece : talk.pieces) {
    for (size_t i = 0; i < piece.size();) {  // a, whole characters, and U+FFFD for what is none
      const std::string_view rest = std::string_view(piece).substr(i);
      const size_t length = rest.starts_with("a")              ? 1
                            : rest.starts_with("\xC3\xA9")     ? 2
                            : rest.starts_with("\xEF\xBF\xBD") ? 3
                                                               : 0;
      ASSERT_GT(length, 0u);
      i += length;
    }
  }
}

TEST(Generate, CanBeCancelled) {
  Talk talk(Letters("abc"));
  talk.cancel_after = 3;
  const GenerateResult result = talk.Go({.stop_strings = {}});
  EXPECT_EQ(result.reason, StopReason::kCancelled);
  EXPECT_EQ(result.tokens.size(), 3u);
}

TEST(Generate, EndsWhenTheContextIsFull) {
  Talk talk(Letters("abc"), 30);
  const GenerateResult result = talk.Go({.stop_strings = {}});
  EXPECT_EQ(result.reason, StopReason::kContextFull);
  EXPECT_EQ(talk.session.length(), 30);
  EXPECT_EQ(result.tokens.size(), 21u);  // one more, which does not enter any more
}

// Two halves are the whole, also through files.
TEST(Generate, GoesOnWhereItEnded) {
  SamplerSpec spec = Letters("abcdefgh");
  spec.frequency_penalty = 0.2f;
  const std::string whole = Talk(spec).Go({.max_tokens = 300, .stop_strings = {}}).text;
  Talk first(spec);
  GenerateResult half = first.Go({.max_tokens = 150, .stop_strings = {}});
  first.Enter(half);
  const test::TemporaryFolder folder;
  first.session.Save(folder / "half.tq", first.sampler.SaveState());

  spec.seed = 99;
  Talk second(spec);
  second.sampler.RestoreState(second.session.Restore(folder / "half.tq"));
  const TokenId last = second.session.tokens().back();
  second.session.Truncate(second.session.length() - 1);
  second.logits = second.session.Append({&last, 1});
  EXPECT_EQ(half.text + second.Go({.max_tokens = 150, .stop_strings = {}}).text, whole);
}

}  // namespace
}  // namespace tq
