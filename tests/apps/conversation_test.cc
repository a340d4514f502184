// SPDX-License-Identifier: Apache-2.0
// Chats over a small random model: what the session holds is always the conversation, however it
// came about.
#include "apps/conversation.h"

#include <gmock/gmock.h>

#include <csignal>
#include <limits>

#include "apps/interrupt.h"
#include "tests/engine/tiny_engine.h"
#include "turboquant/base/error.h"

namespace tq::app {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using testing::StartsWith;

std::shared_ptr<const Engine> TheEngine() {
  static const std::shared_ptr<const Engine> engine = test::LoadTinyEngine();
  return engine;
}

// Replies of these letters.
SamplerSpec Letters(const std::string& letters) {
  SamplerSpec spec{.temperature = 5, .top_k = 0, .top_p = 1, .min_p = 0, .logit_bias = {}};
  spec.seed = 1;
  for (TokenId id = 0; id < TheEngine()->tokenizer().size(); ++id) {
    if (id > 255 || letters.find(static_cast<char>(id)) == std::string::npos)
      spec.logit_bias[id] = -std::numeric_limits<float>::infinity();
  }
  return spec;
}

struct Chat {
  explicit Chat(int64_t context = 2048, int64_t keep = 0, const std::string& letters = "abcd")
      : conversation(TheEngine(), test::ExactOptions(*TheEngine(), "turbo4", "turbo3", context),
                     format, Letters(letters), keep, "Be brief.") {}

  GenerateResult Say(const std::string& text, int64_t tokens = 20,
                     const std::vector<std::string>& stops = {}) {
    notices.clear();
    return conversation.Turn(text, {.max_tokens = tokens, .stop_strings = stops}, {},
                             [this](const std::string& notice) { notices.push_back(notice); });
  }
  // The conversation as the template writes it. The session lacks the end of the last reply: the
  // token chosen last, and what closes the turn.
  void ExpectSessionHoldsConversation(size_t lacking = 1) {
    std::vector<TokenId> tokens =
        TheEngine()->tokenizer().Encode(format.Render(conversation.messages(), false), true, true);
    const auto close = TheEngine()->tokenizer().Encode("<|im_end|>\n", false, true);
    ASSERT_GE(tokens.size(), close.size() + lacking);
    tokens.resize(tokens.size() - close.size() - lacking);
    EXPECT_EQ(conversation.session().tokens(), tokens);
  }

  ChatTemplate format = ChatTemplate::FromName("chatml");
  Conversation conversation;
  std::vector<std::string> notices;
};

TEST(Conversation, FeedsOnlyWhatIsNew) {
  Chat chat;
  chat.Say("Who is there?");
  chat.ExpectSessionHoldsConversation();
  const int64_t before = chat.conversation.session().length();
  EXPECT_THAT(chat.Say("Why?").text, SizeIs(20));
  chat.ExpectSessionHoldsConversation();
  EXPECT_EQ(chat.conversation.last_timing().prompt_tokens + 19,
            chat.conversation.session().length() - before);
  EXPECT_EQ(chat.conversation.last_timing().generated_tokens, 20);
  EXPECT_THAT(chat.conversation.messages(), SizeIs(5));
}

// Tokens of the stop string are in the session, but not in the conversation: they are taken back.
TEST(Conversation, AfterAStopString) {
  Chat chat;
  const std::string text = chat.Say("Who is there?").text;
  chat.conversation.Clear();
  const GenerateResult cut = chat.Say("Who is there?", 20, {text.substr(8, 5)});
  ASSERT_EQ(cut.reason, StopReason::kStopString);
  EXPECT_THAT(text, StartsWith(cut.text));
  EXPECT_GT(chat.conversation.session().length(), 0);
  chat.Say("Why?");
  chat.ExpectSessionHoldsConversation();
  EXPECT_LT(chat.conversation.last_timing().prompt_tokens, 80);  // not everything anew
}

TEST(Conversation, ATurnThatDoesNotFitChangesNothing) {
  Chat chat(200);
  chat.Say("Who is there?");
  const std::vector<TokenId> before = chat.conversation.session().tokens();
  try {
    chat.Say(std::string(500, 'x'));
    FAIL() << "was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(error.what(), HasSubstr("do not fit a context of 200"));
  }
  EXPECT_EQ(chat.conversation.session().tokens(), before);
  EXPECT_THAT(chat.conversation.messages(), SizeIs(3));
  EXPECT_THAT(chat.notices, IsEmpty());
  chat.Say("Why?", 10);
  chat.ExpectSessionHoldsConversation();
}

TEST(Conversation, AnInterruptedTurnIsForgotten) {
  Chat chat;
  chat.Say("Who is there?");
  InstallInterruptHandler();
  std::raise(SIGINT);
  EXPECT_THROW(chat.Say(std::string(300, 'x')), Error);
  ClearInterrupt();
  EXPECT_THAT(chat.conversation.messages(), SizeIs(3));
  chat.Say("Why?");
  chat.ExpectSessionHoldsConversation();
}

TEST(Conversation, DropsTheOldestWhenTheContextIsFull) {
  Chat chat(300, -1);
  chat.Say("Who is there?");
  const std::vector<TokenId> first(chat.conversation.session().tokens().begin(),
                                   chat.conversation.session().tokens().begin() + 80);
  int dropped = 0;
  for (int turn = 0; turn < 12; ++turn) {
    EXPECT_THAT(chat.Say("And then?", 60).text, SizeIs(60));
    dropped += static_cast<int>(chat.notices.size());
    EXPECT_LE(chat.conversation.session().length(), 300);
    const std::vector<TokenId>& held = chat.conversation.session().tokens();
    EXPECT_TRUE(std::equal(first.begin(), first.end(), held.begin()));  // --keep -1
  }
  EXPECT_GE(dropped, 3);
  // A longer reply than the context.
  EXPECT_THAT(chat.Say("Go on", 900).text, SizeIs(900));
  EXPECT_GE(chat.notices.size(), 3u);
  // Also after a turn that makes the session be compared with the whole text anew.
  InstallInterruptHandler();
  std::raise(SIGINT);
  EXPECT_THROW(chat.Say("x"), Error);
  ClearInterrupt();
  EXPECT_THAT(chat.Say("And then?", 60).text, SizeIs(60));
}

TEST(Conversation, SaveAndLoadGoOnAlike) {
  const test::TemporaryFolder folder;
  Chat chat;
  chat.Say("Who is there?");
  chat.conversation.Save(folder / "chat.tq");
  const std::string expected = chat.Say("Why?").text;

  Chat other;
  other.Say("Something else");
  other.conversation.Load(folder / "chat.tq");
  EXPECT_THAT(other.conversation.messages(), SizeIs(3));
  EXPECT_EQ(other.Say("Why?").text, expected);
  EXPECT_LT(other.conversation.last_timing().prompt_tokens, 80);
  other.ExpectSessionHoldsConversation();
}

TEST(Conversation, RefusesASessionWithoutConversation) {
  const test::TemporaryFolder folder;
  Chat chat;
  chat.Say("Who is there?");
  chat.conversation.session().Save(folder / "plain.tq");
  EXPECT_THROW(
      {
        try {
          chat.conversation.Load(folder / "plain.tq");
        } catch (const Error& error) {
          EXPECT_EQ(error.code(), ErrorCode::kCorruptFile);
          EXPECT_THAT(error.what(), HasSubstr("holds no conversation"));
          throw;
        }
      },
      Error);
  EXPECT_THAT(chat.conversation.messages(), SizeIs(1));  // begun anew
  chat.Say("Why?");
  chat.ExpectSessionHoldsConversation();
}

TEST(Conversation, ClearKeepsTheSystemMessage) {
  Chat chat;
  const std::string first = chat.Say("Who is there?").text;
  chat.conversation.Clear();
  EXPECT_EQ(chat.conversation.session().length(), 0);
  EXPECT_THAT(chat.conversation.messages(), SizeIs(1));
  EXPECT_EQ(chat.Say("Who is there?").text, first);  // the seed too
}

}  // namespace
}  // namespace tq::app
