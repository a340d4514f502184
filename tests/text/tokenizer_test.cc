// SPDX-License-Identifier: Apache-2.0
// Tokenizers on small vocabularies made here: what is merged, what is special, what is refused.
#include "turboquant/text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/tiny_vocabulary.h"
#include "turboquant/base/error.h"
#include "turboquant/base/random.h"
#include "turboquant/text/pretokenizer.h"
#include "turboquant/text/utf8.h"

namespace tq {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing_support::SetTinyBpe;
using testing_support::SetTinySentencePiece;

std::unique_ptr<const Tokenizer> Load(const GgufWriter& writer) {
  const std::vector<std::byte> bytes = writer.Serialize();
  return Tokenizer::FromGguf(GgufFile::Parse(bytes, "test.gguf"));
}

std::unique_ptr<const Tokenizer> TinyBpe() {
  GgufWriter writer;
  SetTinyBpe(writer);
  return Load(writer);
}

std::unique_ptr<const Tokenizer> TinySentencePiece(bool add_space_prefix) {
  GgufWriter writer;
  SetTinySentencePiece(writer, add_space_prefix);
  return Load(writer);
}

std::vector<std::string> Texts(const Tokenizer& tokenizer, std::string_view text,
                               bool parse_special = false) {
  std::vector<std::string> out;
  for (const TokenId id : tokenizer.Encode(text, false, parse_special)) {
    out.push_back(tokenizer.TokenText(id));
  }
  return out;
}

TEST(ByteBpe, MergesByRankWithinPieces) {
  const auto tokenizer = TinyBpe();
  EXPECT_THAT(Texts(*tokenizer, "hello"), ElementsAre("hell", "o"));
  EXPECT_THAT(Texts(*tokenizer, "ooo"), ElementsAre("oo", "o"));  // leftmost first
  // A piece ends before " world": the o's of "hello" and " o" never meet.
  EXPECT_THAT(Texts(*tokenizer, "o o wo"), ElementsAre("o", "\u0120", "o", "\u0120w", "o"));
  EXPECT_THAT(tokenizer->Encode("", true, true), ElementsAre());
}

TEST(ByteBpe, SpecialTokens) {
  const auto tokenizer = TinyBpe();
  EXPECT_THAT(Texts(*tokenizer, "o<|end|>", true), ElementsAre("o", "<|end|>"));
  EXPECT_EQ(Texts(*tokenizer, "o<|end|>", false).size(), 8u);
  EXPECT_THAT(Texts(*tokenizer, "o<tool>o", false), ElementsAre("o", "<tool>", "o"));
  const TokenId end = tokenizer->special().eos;
  EXPECT_THAT(tokenizer->special().end_of_generation, ElementsAre(end));
  EXPECT_EQ(tokenizer->TokenBytes(end), "");
  EXPECT_EQ(tokenizer->TokenBytes(end, true), "<|end|>");
  EXPECT_EQ(tokenizer->TokenBytes(100000), "");
  EXPECT_EQ(tokenizer->TokenBytes(-1), "");
}

TEST(ByteBpe, AddsBosAndEosAsTheFileSays) {
  GgufWriter writer;
  SetTinyBpe(writer);
  writer.Set("tokenizer.ggml.add_bos_token", true);
  writer.Set("tokenizer.ggml.add_eos_token", true);
  const auto tokenizer = Load(writer);
  const TokenId end = tokenizer->special().eos;
  EXPECT_THAT(tokenizer->Encode("", true, false), ElementsAre(end, end));
  EXPECT_THAT(tokenizer->Encode("", false, false), ElementsAre());
}

TEST(SentencePiece, MergesByScoreAndFallsBackToBytes) {
  const auto tokenizer = TinySentencePiece(false);
  EXPECT_THAT(Texts(*tokenizer, "abc"), ElementsAre("abc"));
  EXPECT_THAT(Texts(*tokenizer, "bab"), ElementsAre("b", "ab"));
  EXPECT_THAT(Texts(*tokenizer, "a b"), ElementsAre("a", "\u2581", "b"));
  EXPECT_THAT(Texts(*tokenizer, "a\u00e9"), ElementsAre("a", "<0xC3>", "<0xA9>"));
  EXPECT_THAT(Texts(*TinySentencePiece(true), "ab"), ElementsAre("\u2581ab"));
  EXPECT_EQ(tokenizer->Encode("a", true, false).front(), tokenizer->special().bos);
}

TEST(Tokenizers, AnyBytesComeBack) {
  const std::unique_ptr<const Tokenizer> tokenizers[] = {TinyBpe(), TinySentencePiece(false)};
  Random random(7);
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    const int length = static_cast<int>(random.Next() % 40);
    for (int i = 0; i < length; ++i) {
      // Half letters, spaces and newlines that merge, half anything, invalid UTF-8 included.
      text.push_back(random.Next() % 2 != 0 ? "abcello w\n\t1"[random.Next() % 12]
                                            : static_cast<char>(random.Next()));
    }
    for (const auto& tokenizer : tokenizers) {
      EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(text, false, false)), text);
    }
  }
}

TEST(Tokenizers, LongRunsAreNotQuadratic) {
  // 2 million equal characters in one piece: minutes if each merge walked the piece.
  const std::string text(2'000'000, 'o');
  EXPECT_EQ(TinyBpe()->Encode(text, false, false).size(), text.size() / 2);
  std::string tags;
  for (int i = 0; i < 100'000; ++i) tags += "<tool>";
  EXPECT_EQ(TinyBpe()->Encode(tags, false, false).size(), 100'000u);
}

TEST(Pretokenizer, PiecesCoverTheTextForEveryName) {
  for (const char* name : {"gpt-2", "smollm", "qwen2", "llama-bpe"}) {
    const Pretokenizer pretokenizer = Pretokenizer::FromName(name);
    for (const std::string text :
         {"", " ", "it's 1234  \n\n x\xff\xfe\u4e16\u754c!?\r\n", "\x80"}) {
      std::string joined;
      for (const std::string_view piece : pretokenizer.Split(text)) {
        EXPECT_FALSE(piece.empty());
        joined += piece;
      }
      EXPECT_EQ(joined, text) << name;
    }
  }
}

TEST(Pretokenizer, NumbersDifferByName) {
  const auto split = [](const char* name) { return Pretokenizer::FromName(name).Split("a 1234"); };
  EXPECT_THAT(split("gpt-2"), ElementsAre("a", " 1234"));
  EXPECT_THAT(split("smollm"), ElementsAre("a", " ", "1", "2", "3", "4"));
  EXPECT_THAT(split("qwen2"), ElementsAre("a", " ", "1", "2", "3", "4"));
  EXPECT_THAT(split("llama-bpe"), ElementsAre("a", " ", "123", "4"));
}

// What each wrong file is refused with.
void ExpectRefused(const GgufWriter& writer, ErrorCode code, const char* message) {
  try {
    Load(writer);
    ADD_FAILURE() << "accepted; expected: " << message;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    EXPECT_THAT(error.what(), HasSubstr(message));
  }
}

TEST(Tokenizers, RefuseWhatTheyDoNotKnow) {
  GgufWriter unknown;
  unknown.SetString("tokenizer.ggml.model", "wordpiece");
  ExpectRefused(unknown, ErrorCode::kUnsupported, "'wordpiece'");
  GgufWriter pretokenizer;
  SetTinyBpe(pretokenizer, "klingon");
  ExpectRefused(pretokenizer, ErrorCode::kUnsupported,
                "'klingon' (tokenizer.ggml.pre) is not supported; there are: gpt-2, smollm, "
                "qwen2, llama-bpe");
  ExpectRefused(GgufWriter(), ErrorCode::kCorruptFile, "tokenizer.ggml.model");
}

TEST(Tokenizers, RefuseDamagedTables) {
  const auto bpe = [](const char* key, GgufOutValue value) {
    GgufWriter writer;
    writer.SetString("tokenizer.ggml.model", "gpt2");
    writer.SetString("tokenizer.ggml.pre", "gpt-2");
    const std::pair<const char*, GgufOutValue> table[] = {
        {"tokenizer.ggml.tokens", std::vector<std::string>{"a", "b"}},
        {"tokenizer.ggml.token_type", std::vector<int32_t>{1, 1}},
        {"tokenizer.ggml.merges", std::vector<std::string>{"a b"}},
        {"tokenizer.ggml.eos_token_id", 1u}};
    for (const auto& [name, good] : table) {
      writer.Set(name, std::string_view(name) == key ? value : good);
    }
    return writer;
  };
  EXPECT_NO_THROW(Load(bpe("", 0u)));
  ExpectRefused(bpe("tokenizer.ggml.tokens", std::vector<std::string>{}), ErrorCode::kCorruptFile,
                "tokenizer.ggml.tokens is empty");
  ExpectRefused(bpe("tokenizer.ggml.token_type", std::vector<int32_t>{1}), ErrorCode::kCorruptFile,
                "has 1 entries for 2 tokens");
  ExpectRefused(bpe("tokenizer.ggml.token_type", std::vector<int32_t>{1, 9}),
                ErrorCode::kCorruptFile, "9 for token 1");
  ExpectRefused(bpe("tokenizer.ggml.merges", std::vector<std::string>{"ab"}),
                ErrorCode::kCorruptFile, "entry 0 ('ab')");
  ExpectRefused(bpe("tokenizer.ggml.eos_token_id", 2u), ErrorCode::kCorruptFile,
                "is 2, but there are 2 tokens");
  GgufWriter no_scores;
  no_scores.SetString("tokenizer.ggml.model", "llama");
  no_scores.Set("tokenizer.ggml.tokens", std::vector<std::string>{"a"});
  ExpectRefused(no_scores, ErrorCode::kCorruptFile, "tokenizer.ggml.scores is missing");
}

TEST(Utf8StreamTest, HoldsBackUnfinishedCharacters) {
  Utf8Stream stream;
  EXPECT_EQ(stream.Push("a\xE4\xB8"), "a");
  EXPECT_EQ(stream.Push("\x96z\xC3"), "\u4e16z");
  EXPECT_EQ(stream.Flush(), "\uFFFD");
  EXPECT_EQ(stream.Push("\xFFx"), "\uFFFDx");                    // can never become a character
  EXPECT_EQ(stream.Push("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");  // a surrogate
  EXPECT_EQ(stream.Flush(), "");
}

TEST(Utf8, LengthIsZeroForWhatIsNotACharacter) {
  EXPECT_EQ(Utf8Length("\U0001F600"), 4);
  for (const char* bad : {"", "\x80", "\xC0\x80", "\xE0\x80\x80", "\xF5\x80\x80\x80", "\xE4\xB8"}) {
    EXPECT_EQ(Utf8Length(bad), 0);
  }
  for (const uint32_t code_point : {0x41u, 0xE9u, 0x4E16u, 0x1F600u, 0x10FFFFu}) {
    std::string text;
    Utf8Append(code_point, text);
    EXPECT_EQ(Utf8Decode(text), code_point);
    EXPECT_EQ(Utf8Length(text), static_cast<int>(text.size()));
  }
}

}  // namespace
}  // namespace tq
