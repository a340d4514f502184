// SPDX-License-Identifier: Apache-2.0
#include "turboquant/kv/policy.h"

#include <gmock/gmock.h>

#include "turboquant/base/error.h"
#include "turboquant/base/random.h"

namespace tq {
namespace {

using enum Codec;
using testing::HasSubstr;

std::string ErrorOf(std::string_view text, int layers = 36) {
  try {
    ParseCodecList(text, layers, kF16);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
  ADD_FAILURE() << text << " was accepted";
  return "";
}

TEST(CodecList, OneTypeForAllLayers) {
  EXPECT_EQ(ParseCodecList("turbo4", 3, kF16), std::vector<Codec>(3, kTurbo4));
  EXPECT_EQ(ParseCodecList("tbq3", 2, kF16), std::vector<Codec>(2, kTurbo3));
}

TEST(CodecList, LayersAndRanges) {
  const std::vector<Codec> codecs = ParseCodecList("turbo4:0-27,q8_0:28,30-35", 36, kTurbo2);
  for (size_t layer = 0; layer < 36; ++layer) {
    EXPECT_EQ(codecs[layer], layer < 28 ? kTurbo4 : layer == 29 ? kTurbo2 : kQ8_0) << layer;
  }
  EXPECT_EQ(ParseCodecList("turbo3:2,turbo2:0,turbo3:1", 3, kF16),
            (std::vector{kTurbo2, kTurbo3, kTurbo3}));
}

TEST(CodecList, ErrorsNameThePosition) {
  EXPECT_THAT(ErrorOf(""), HasSubstr("empty"));
  EXPECT_THAT(ErrorOf("turbo5"), AllOf(HasSubstr("column 1:"), HasSubstr("unknown type \"turbo5\""),
                                       HasSubstr("turbo8")));
  EXPECT_THAT(ErrorOf("turbo4:0-27,foo:28"),
              AllOf(HasSubstr("column 13:"), HasSubstr("\"foo\""), HasSubstr("q4_0")));
  EXPECT_THAT(ErrorOf("turbo4:0-36"),
              AllOf(HasSubstr("column 10:"), HasSubstr("no layer 36"), HasSubstr("36 layers")));
  EXPECT_THAT(ErrorOf("turbo4:99999999999999999999"), HasSubstr("no layer 99999999999999999999"));
  EXPECT_THAT(ErrorOf("turbo4:0-5,turbo3:5"),
              AllOf(HasSubstr("column 19:"), HasSubstr("layer 5 is given twice")));
  EXPECT_THAT(ErrorOf("turbo4:1,1"), AllOf(HasSubstr("column 10:"), HasSubstr("twice")));
  EXPECT_THAT(ErrorOf("turbo4:5-3"), AllOf(HasSubstr("column 8:"), HasSubstr("5-3 is empty")));
  EXPECT_THAT(ErrorOf("turbo4:"), AllOf(HasSubstr("column 8:"), HasSubstr("missing")));
  EXPECT_THAT(ErrorOf("turbo4:1,"), AllOf(HasSubstr("column 10:"), HasSubstr("missing")));
  EXPECT_THAT(ErrorOf("turbo4:1-"), AllOf(HasSubstr("column 10:"), HasSubstr("missing")));
  EXPECT_THAT(ErrorOf("turbo4:-1"), AllOf(HasSubstr("column 8:"), HasSubstr("missing")));
  EXPECT_THAT(ErrorOf("turbo4:1 "), AllOf(HasSubstr("column 9:"), HasSubstr("' '")));
  EXPECT_THAT(ErrorOf("turbo4:1\n"), HasSubstr("\\x0a"));
  EXPECT_THAT(ErrorOf(std::string_view("\0\xc3", 2)), HasSubstr("unknown type \"\\x00\\xc3\""));
  EXPECT_THAT(ErrorOf("turbo4,q8_0:3"),
              AllOf(HasSubstr("column 1:"), HasSubstr("names no layers")));
  EXPECT_THAT(ErrorOf("0-3"), AllOf(HasSubstr("column 1:"), HasSubstr("unknown type")));
  EXPECT_THAT(ErrorOf(",turbo4:1"), AllOf(HasSubstr("column 1:"), HasSubstr("missing")));
  EXPECT_THAT(ErrorOf("turbo4:1", 0), HasSubstr("no layer 1"));
}

TEST(CodecList, TextParsesBack) {
  EXPECT_EQ(CodecListText(std::vector<Codec>(4, kTurbo3)), "turbo3");
  EXPECT_EQ(CodecListText({kTurbo4, kTurbo4, kQ8_0, kTurbo4, kQ8_0, kQ8_0}),
            "turbo4:0-1,3,q8_0:2,4-5");
  Random random(7);
  for (int round = 0; round < 500; ++round) {
    std::vector<Codec> codecs(1 + random.Next() % 40);
    for (size_t i = 0; i < codecs.size(); ++i) {
      codecs[i] = i > 0 && random.Next() % 2 == 0 ? codecs[i - 1]
                                                  : kCodecs[random.Next() % kCodecs.size()].codec;
    }
    EXPECT_EQ(ParseCodecList(CodecListText(codecs), static_cast<int>(codecs.size()), kF32), codecs);
  }
}

std::string AgeErrorOf(std::string_view text) {
  try {
    ParseAgeSteps(text);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
  ADD_FAILURE() << text << " was accepted";
  return "";
}

TEST(AgeSteps, TextParsesBack) {
  const std::vector<AgeStep> steps = ParseAgeSteps("4096:turbo3_tcq,16384:tbq3_tcq/turbo2");
  EXPECT_EQ(steps,
            (std::vector<AgeStep>{{4096, kTurbo3Tcq, kTurbo3Tcq}, {16384, kTurbo3Tcq, kTurbo2}}));
  EXPECT_EQ(AgeStepsText(steps), "4096:turbo3_tcq,16384:turbo3_tcq/turbo2");
  EXPECT_EQ(ParseAgeSteps(AgeStepsText(steps)), steps);
  EXPECT_EQ(AgeStepsText({}), "");
  EXPECT_EQ(steps[0].window_pages(), 32);
  EXPECT_EQ((AgeStep{129, kTurbo3, kTurbo3}.window_pages()), 2);
}

TEST(AgeSteps, ErrorsNameThePosition) {
  EXPECT_THAT(AgeErrorOf(""), HasSubstr("empty"));
  EXPECT_THAT(AgeErrorOf("turbo3"), AllOf(HasSubstr("column 1:"), HasSubstr("age in tokens")));
  EXPECT_THAT(AgeErrorOf("4096"), AllOf(HasSubstr("column 5:"), HasSubstr("a ':' and a type")));
  EXPECT_THAT(AgeErrorOf("4096:"), AllOf(HasSubstr("column 6:"), HasSubstr("age to \"\"")));
  EXPECT_THAT(AgeErrorOf("0:turbo3"), AllOf(HasSubstr("column 1:"), HasSubstr("give 1 to")));
  EXPECT_THAT(AgeErrorOf("99999999999999999999:turbo3"), HasSubstr("give 1 to"));
  EXPECT_THAT(AgeErrorOf("4096:turbo5"),
              AllOf(HasSubstr("column 6:"), HasSubstr("turbo5"), HasSubstr("turbo2_tcq")));
  EXPECT_THAT(AgeErrorOf("4096:f16"), AllOf(HasSubstr("column 6:"), HasSubstr("cannot age")));
  EXPECT_THAT(AgeErrorOf("4096:turbo8"), AllOf(HasSubstr("column 6:"), HasSubstr("cannot age")));
  EXPECT_THAT(AgeErrorOf("4096:turbo3/"), AllOf(HasSubstr("column 13:"), HasSubstr("cannot age")));
  EXPECT_THAT(AgeErrorOf("4096:turbo3/turbo2/turbo2"),
              AllOf(HasSubstr("column 19:"), HasSubstr("'/'")));
  EXPECT_THAT(AgeErrorOf("4096:turbo3,"), AllOf(HasSubstr("column 13:"), HasSubstr("missing")));
  EXPECT_THAT(AgeErrorOf("4096:turbo3,4000:turbo2"),
              AllOf(HasSubstr("column 13:"), HasSubstr("not older")));
  EXPECT_THAT(AgeErrorOf("4000:turbo3,4090:turbo2"), HasSubstr("not older"));  // one page
  EXPECT_THAT(AgeErrorOf("4096:turbo3,8192:turbo3_tcq"),
              AllOf(HasSubstr("column 13:"), HasSubstr("takes bits off")));
  EXPECT_THAT(AgeErrorOf("4096:turbo2/turbo4,8192:turbo3"), HasSubstr("takes bits off"));
  EXPECT_THAT(AgeErrorOf("1:turbo4,200:turbo4/turbo3,400:turbo3,600:turbo3/turbo2,800:turbo2"),
              HasSubstr("more than 4"));
  EXPECT_THAT(AgeErrorOf("4096:turbo3\n"), HasSubstr("\\x0a"));
}

TEST(AgeSteps, BitsOnlyFall) {
  EXPECT_EQ(AgedCodec(kTurbo4, kTurbo3Tcq), kTurbo3Tcq);
  EXPECT_EQ(AgedCodec(kTurbo3, kTurbo3Tcq), kTurbo3);
  EXPECT_EQ(AgedCodec(kTurbo2, kTurbo3), kTurbo2);
  EXPECT_EQ(AgedCodec(kF16, kTurbo2), kF16);
  CachePolicy policy{.k = {kTurbo4, kTurbo2}, .v = {kF16, kTurbo3}};
  EXPECT_FALSE(Ages(policy));
  policy.ages = {{512, kTurbo3, kTurbo3}};
  EXPECT_TRUE(Ages(policy));
  policy.k = policy.v;
  EXPECT_FALSE(Ages(policy));
}

TEST(OpenCodec, TilesEnterAtEightBits) {
  for (const CodecInfo& info : kCodecs)
    EXPECT_EQ(OpenCodec(info.codec), info.tiles ? kTurbo8 : info.codec);
}

}  // namespace
}  // namespace tq
