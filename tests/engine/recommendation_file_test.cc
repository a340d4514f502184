// SPDX-License-Identifier: Apache-2.0
#include "turboquant/engine/recommendation_file.h"

#include <gmock/gmock.h>

#include <fstream>

#include "tests/support/temp_folder.h"
#include "turboquant/base/error.h"
#include "turboquant/base/hash.h"

namespace tq::test {
namespace {

using testing::HasSubstr;
using testing_support::TempFolder;

Recommendation Sample(int64_t context = 8192) {
  Recommendation r;
  r.model_id = 0x0123456789abcdef;
  r.context = context;
  r.policy.k = {Codec::kTurbo8, Codec::kTurbo4, Codec::kTurbo4};
  r.policy.v = {Codec::kTurbo3, Codec::kTurbo3, Codec::kTurbo2};
  r.policy.window = 256;
  r.divergence = 0.00123456789;
  r.upper = 0.0025;
  r.bytes = 123456789;
  r.text_id = 0xfedcba9876543210;
  return r;
}

template <typename Fn>
std::string Failure(ErrorCode code, Fn&& fn) {
  try {
    fn();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

std::string WithChecksum(std::string text) {
  text = text.substr(0, text.rfind("checksum "));
  return text + "checksum " + HexString(Hash64(std::as_bytes(std::span(text)))) + "\n";
}
std::string Replaced(std::string text, const std::string& from, const std::string& to) {
  return text.replace(text.find(from), from.size(), to);
}

TEST(RecommendationFileTest, TextAndBack) {
  EXPECT_EQ(ParseRecommendation(RecommendationText(Sample())), Sample());
}

TEST(RecommendationFileTest, EveryDamagedByteIsNoticed) {
  const std::string text = RecommendationText(Sample());
  for (size_t i = 0; i < text.size(); ++i) {
    std::string damaged = text;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    EXPECT_THROW(ParseRecommendation(damaged), Error) << i;
    EXPECT_THROW(ParseRecommendation(text.substr(0, i)), Error) << i;
  }
}

TEST(RecommendationFileTest, WhatIsWrongIsSaid) {
  const std::string text = RecommendationText(Sample());
  const auto parse = [](const std::string& bytes) { return [=] { ParseRecommendation(bytes); }; };
  EXPECT_THAT(Failure(ErrorCode::kUnsupported, parse(Replaced(text, "tion 2\n", "tion 1\n"))),
              testing::AllOf(HasSubstr("version 1"), HasSubstr("recommend")));
  EXPECT_THAT(Failure(ErrorCode::kCorruptFile, parse("hello")), HasSubstr("not a recommendation"));
  EXPECT_THAT(Failure(ErrorCode::kCorruptFile, parse(Replaced(text, "8192", "8193"))),
              HasSubstr("checksum"));
  EXPECT_THAT(
      Failure(ErrorCode::kUnsupported, parse(WithChecksum(Replaced(text, "turbo8:0", "turbo9:0")))),
      HasSubstr("turbo9"));
  EXPECT_THAT(
      Failure(ErrorCode::kCorruptFile, parse(WithChecksum(Replaced(text, "bytes 1", "bytes x")))),
      HasSubstr("bytes"));
  EXPECT_THAT(
      Failure(ErrorCode::kCorruptFile, parse(WithChecksum(Replaced(text, "upper", "upped")))),
      HasSubstr("upper"));
}

TEST(RecommendationFileTest, FindsTheSmallestContextThatReaches) {
  const TempFolder folder;
  const auto find = [&](uint64_t model, int64_t context) {
    const auto found = FindRecommendation(folder.path() / "new", model, context);
    return found ? found->context : -1;
  };
  const uint64_t model = Sample().model_id;
  EXPECT_EQ(find(model, 1), -1);
  for (const int64_t context : {8192, 2048, 32768})
    SaveRecommendation(folder.path() / "new", Sample(context));
  EXPECT_EQ(find(model, 1), 2048);
  EXPECT_EQ(find(model, 2048), 2048);
  EXPECT_EQ(find(model, 2049), 8192);
  EXPECT_EQ(find(model, 32769), -1);
  EXPECT_EQ(find(model + 1, 1), -1);
  Recommendation again = Sample(8192);
  again.upper = 0.5;
  SaveRecommendation(folder.path() / "new", again);  // replaces
  EXPECT_EQ(FindRecommendation(folder.path() / "new", model, 8192), again);
}

TEST(RecommendationFileTest, ADamagedFileIsNamed) {
  const TempFolder folder;
  const auto path = SaveRecommendation(folder.path() / "x", Sample());
  std::ofstream(path) << "rubbish";
  EXPECT_THAT(Failure(ErrorCode::kCorruptFile,
                      [&] { FindRecommendation(folder.path() / "x", Sample().model_id, 100); }),
              testing::AllOf(HasSubstr(path.string()), HasSubstr("turboquant recommend")));
}

TEST(RecommendationFileTest, AFolderThatCannotBeMade) {
  const TempFolder folder;
  std::ofstream(folder.path() / "file") << "x";
  EXPECT_THAT(
      Failure(ErrorCode::kIo, [&] { SaveRecommendation(folder.path() / "file", Sample()); }),
      HasSubstr("XDG_CACHE_HOME"));
}

}  // namespace
}  // namespace tq::test
