// SPDX-License-Identifier: Apache-2.0
// What a session promises, on random models: any chunking, forks and rollbacks give the same.
#include "turboquant/engine/session.h"

#include <gmock/gmock.h>

#include <cstring>

#include "tests/engine/tiny_engine.h"
#include "turboquant/base/error.h"
#include "turboquant/base/random.h"

namespace tq::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// Measured: below 1e-5 without quantisation; a key that rounds to another 8-bit code moves it a
// little.
constexpr double kChunkTolerance = 0.01;
constexpr double kRecomputeTolerance = 0.05;

struct Case {
  const char* architecture;
  const char* type_k;
  const char* type_v;
  int threads = 1;
  const char* ages = nullptr;
};
void PrintTo(const Case& c, std::ostream* out) {
  *out << c.architecture << " " << c.type_k << "/" << c.type_v;
  if (c.ages != nullptr) *out << " " << c.ages;
}

class SessionTest : public testing::TestWithParam<Case> {
 protected:
  std::shared_ptr<const Engine> engine_ =
      LoadTinyEngine({.architecture = GetParam().architecture}, GetParam().threads);

  SessionOptions Options() const {
    SessionOptions options = ExactOptions(*engine_, GetParam().type_k, GetParam().type_v);
    if (GetParam().ages != nullptr) options.cache.ages = ParseAgeSteps(GetParam().ages);
    return options;
  }
};

// Puts keys and values that depend on layer, position and column only in place of the model's: then
// pages depend on nothing else, to the bit.
class FixedKeysAndValues final : public Observer {
 public:
  void Layer(int layer, SequenceId, int64_t first_position, MatrixView<float>, MatrixView<float> k,
             MatrixView<float> v) override {
    for (int64_t t = 0; t < k.rows; ++t) {
      Random random(static_cast<uint64_t>((first_position + t) * 64 + layer));
      for (int64_t i = 0; i < k.cols; ++i) {
        k.row(t)[i] = static_cast<float>(random.Gaussian() + (i % 7 == 0 ? 2 : 0));
        v.row(t)[i] = static_cast<float>(random.Gaussian());
      }
    }
  }
};

// The bytes that the next query of the main timeline sees; its length is whole pages.
std::vector<std::byte> VisibleBytes(Session& session) {
  std::vector<std::byte> bytes;
  for (int layer = 0; layer < session.cache().geometry().num_layers; ++layer) {
    const KvLayerView view = session.cache().View(session.main_sequence(), layer);
    const int64_t next = view.length;
    for (int page = static_cast<int>(view.visibility.FirstVisible(next) / kPageTokens);
         page < view.num_pages; ++page) {
      const int form = view.FormAt(page, next);
      for (int head = 0; head < view.open.kv_heads; ++head) {
        const std::byte* data = view.Head(form, page, head);
        bytes.insert(bytes.end(), data, data + view.Layout(form).head_bytes);
      }
    }
  }
  return bytes;
}

TEST_P(SessionTest, AnyChunkingGivesTheSamePageBytes) {
  const std::vector<TokenId> tokens = RandomTokens(*engine_, 768, 3);
  FixedKeysAndValues observer;
  std::vector<std::byte> expected;
  for (const int64_t chunk : {1, 3, 100, 128, 512, 768}) {
    SCOPED_TRACE(chunk);
    Session session(engine_, Options());
    for (size_t done = 0; done < tokens.size(); done += static_cast<size_t>(chunk)) {
      StepPlan plan;
      plan.spans = {{.sequence = session.main_sequence(),
                     .tokens = std::span(tokens).subspan(
                         done, std::min(tokens.size() - done, static_cast<size_t>(chunk))),
                     .logits = LogitsWanted::kNone}};
      plan.observer = &observer;
      plan.prefill = chunk == 512 ? PrefillMode::kFast : PrefillMode::kExact;  // the same pages
      session.Forward(plan);
    }
    ASSERT_EQ(session.tokens(), tokens);
    const std::vector<std::byte> bytes = VisibleBytes(session);
    if (expected.empty()) expected = bytes;
    ASSERT_FALSE(bytes.empty());
    EXPECT_TRUE(bytes == expected);
  }
}

TEST_P(SessionTest, AnyChunkingGivesTheSameLogits) {
  const std::vector<TokenId> tokens = RandomTokens(*engine_, 700, 4);
  Logits expected;
  for (const int chunk : {1, 7, 128, 200, 512}) {
    SessionOptions options = Options();
    options.chunk = chunk;
    Session session(engine_, options);
    const Logits logits = Append(session, tokens);
    if (expected.empty()) expected = logits;
    EXPECT_LT(RelativeError(logits, expected), kChunkTolerance) << "in chunks of " << chunk;
  }
}

TEST_P(SessionTest, TruncationWithinTheRollbackRangeIsExact) {
  for (const int64_t length : {330, 384, 520}) {  // back over a page's boundary, and not
    SCOPED_TRACE(length);
    Session session(engine_, Options());
    const Logits logits = Append(session, RandomTokens(*engine_, length, 5));
    const std::vector<Logits> first = Decode(session, logits, 60);
    const std::vector<TokenId> tokens = session.tokens();
    session.Truncate(length);
    EXPECT_EQ(session.length(), length);
    EXPECT_TRUE(Decode(session, logits, 60) == first);
    EXPECT_EQ(session.tokens(), tokens);
  }
}

TEST_P(SessionTest, DeeperTruncationRecomputes) {
  const std::vector<TokenId> tokens = RandomTokens(*engine_, 900, 6);
  const std::span<const TokenId> kept = std::span(tokens).first(500);
  const TokenId next[] = {1, 2, 3};
  Session straight(engine_, Options()), session(engine_, Options());
  Append(straight, kept);
  const Logits expected = Append(straight, next);
  Append(session, tokens);
  session.Truncate(500);
  EXPECT_TRUE(std::ranges::equal(session.tokens(), kept));
  EXPECT_EQ(session.cache().Length(session.main_sequence()), 500);
  EXPECT_LT(RelativeError(Append(session, next), expected), kRecomputeTolerance);
}

TEST_P(SessionTest, ForksGoOnAlike) {
  Session session(engine_, Options());
  const Logits logits = Append(session, RandomTokens(*engine_, 450, 7));
  const SequenceId fork = session.cache().Fork(session.main_sequence());
  const std::vector<Logits> expected = Decode(session, logits, 150);

  class Last final : public LogitsSink {
   public:
    void Rows(int, int, MatrixView<const float> rows) override {
      logits.assign(rows.row(rows.rows - 1), rows.row(rows.rows - 1) + rows.cols);
    }
    Logits logits;
  } last;
  last.logits = logits;
  for (const Logits& wanted : expected) {
    const TokenId token = Greedy(last.logits);
    StepPlan plan;
    plan.spans = {{.sequence = fork, .tokens = {&token, 1}}};
    plan.sink = &last;
    plan.precision = Precision::kPrecise;
    session.Forward(plan);
    ASSERT_TRUE(last.logits == wanted);
  }
  EXPECT_EQ(session.length(), 600);  // forks are not the main timeline
  session.cache().FreeSequence(fork);
}

TEST_P(SessionTest, ClearBeginsAnew) {
  Session session(engine_, Options());
  const std::vector<TokenId> tokens = RandomTokens(*engine_, 300, 8);
  const Logits first = Append(session, tokens);
  session.Clear();
  EXPECT_EQ(session.length(), 0);
  EXPECT_EQ(session.cache().Memory().used_bytes, 0u);
  EXPECT_TRUE(Append(session, tokens) == first);
}

INSTANTIATE_TEST_SUITE_P(
    Tiny, SessionTest,
    testing::Values(Case{"llama", "f16", "f16"}, Case{"llama", "turbo4", "turbo3", 2},
                    Case{"llama", "turbo8:0,turbo2:1", "f16"}, Case{"gemma3", "turbo3", "turbo3"},
                    Case{"llama", "turbo4", "turbo4", 2, "256:turbo3,384:turbo3/turbo2_tcq"}));

std::string MessageOf(ErrorCode code, const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  return "nothing was wrong";
}

TEST(SessionLimits, FullContextIsSaidAndChangesNothing) {
  const auto engine = LoadTinyEngine();
  Session session(engine, ExactOptions(*engine, "turbo4", "turbo3", 300));
  const Logits logits = Append(session, RandomTokens(*engine, 290, 1));
  EXPECT_THAT(
      MessageOf(ErrorCode::kInvalidArgument, [&] { session.Append(RandomTokens(*engine, 11, 2)); }),
      AllOf(HasSubstr("context is full"), HasSubstr("290"), HasSubstr("11"), HasSubstr("300")));
  EXPECT_EQ(session.length(), 290);
  EXPECT_EQ(session.cache().Length(session.main_sequence()), 290);
  EXPECT_EQ(Decode(session, logits, 10).size(), 10u);
}

TEST(SessionLimits, BudgetErrorNamesWhatFits) {
  const auto engine = LoadTinyEngine();
  SessionOptions options = ExactOptions(*engine, "f32", "f32", 100000);
  options.cache_budget_bytes = uint64_t{8} << 20;
  const std::string message =
      MessageOf(ErrorCode::kOutOfMemory, [&] { Session session(engine, options); });
  EXPECT_THAT(message, AllOf(HasSubstr("100000 tokens"), HasSubstr("8.0 MiB"),
                             HasSubstr("tokens would fit")));
  const size_t end = message.find(" tokens would fit");
  const size_t begin = message.rfind(' ', end - 1) + 1;
  options.context = std::stoll(message.substr(begin, end - begin));
  Session session(engine, options);  // as it says
  Append(session, RandomTokens(*engine, options.context, 1));
  ++options.context;
  EXPECT_THAT(MessageOf(ErrorCode::kOutOfMemory, [&] { Session larger(engine, options); }),
              HasSubstr("would fit"));
}

TEST(SessionLimits, WrongCallsAreSaid) {
  const auto engine = LoadTinyEngine();
  Session session(engine, ExactOptions(*engine, "turbo4", "turbo3"));
  EXPECT_THAT(MessageOf(ErrorCode::kInvalidArgument, [&] { session.Append({}); }),
              HasSubstr("no tokens"));
  EXPECT_THAT(MessageOf(ErrorCode::kInvalidArgument,
                        [&] {
                          const TokenId token = engine->spec().vocabulary;
                          session.Append({&token, 1});
                        }),
              HasSubstr("vocabulary"));
  EXPECT_EQ(session.length(), 0);
  EXPECT_THAT(MessageOf(ErrorCode::kInvalidArgument, [&] { session.Truncate(1); }),
              HasSubstr("cannot shorten 0 tokens to 1"));
  SessionOptions options = session.options();
  options.cache.k.pop_back();
  EXPECT_THAT(MessageOf(ErrorCode::kInvalidArgument, [&] { Session other(engine, options); }),
              HasSubstr("the model has 2"));
}

TEST(SessionLimits, CancellingKeepsWhatWasAppended) {
  const auto engine = LoadTinyEngine();
  SessionOptions options = ExactOptions(*engine, "turbo4", "turbo3");
  options.chunk = 100;
  Session session(engine, options), straight(engine, options);
  const std::vector<TokenId> tokens = RandomTokens(*engine, 450, 1);
  MessageOf(ErrorCode::kCancelled, [&] {
    session.Append(tokens, [](int64_t done, int64_t total) {
      EXPECT_EQ(total, 450);
      if (done == 200) Throw(ErrorCode::kCancelled, "stop");
    });
  });
  EXPECT_EQ(session.length(), 200);
  const Logits rest = Append(session, std::span(tokens).subspan(200));
  EXPECT_TRUE(rest == Append(straight, tokens));
}

}  // namespace
}  // namespace tq::test
