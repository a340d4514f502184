// SPDX-License-Identifier: Apache-2.0
// Lists, type pairs and escapes that flags are made of.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "apps/ablation_plan.h"
#include "apps/bench_grid.h"
#include "apps/compare_types.h"
#include "apps/device_flags.h"
#include "apps/text_input.h"
#include "turboquant/base/error.h"

namespace tq::app {
namespace {

using testing::ElementsAre;

TEST(IntListTest, ListsAndRanges) {
  EXPECT_THAT(ParseIntList("512", "-p"), ElementsAre(512));
  EXPECT_THAT(ParseIntList("512,1024,0", "-p"), ElementsAre(512, 1024, 0));
  EXPECT_THAT(ParseIntList("1-4", "-p"), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(ParseIntList("128-512+128", "-p"), ElementsAre(128, 256, 384, 512));
  EXPECT_THAT(ParseIntList("1-64*4,7", "-p"), ElementsAre(1, 4, 16, 64, 7));
}

TEST(IntListTest, NonsenseIsRefused) {
  for (const char* text :
       {"", "a", "1,,2", "5-", "5-3", "1-8+0", "1-8*1", "0-8*2", "-4", "99999999999"}) {
    EXPECT_THROW(ParseIntList(text, "-p"), Error) << text;
  }
}

TEST(DeviceFlagsTest, OneDeviceForTheWholeModel) {
  const auto layers = [] { return 30; };
  const auto choose = [&](const char* device, const char* gpu_layers, bool built = true) {
    return ChooseDevice(device, gpu_layers, built, layers);
  };
  EXPECT_EQ(choose("cpu", ""), "cpu");
  EXPECT_EQ(choose("cuda:1", ""), "cuda:1");
  EXPECT_EQ(choose("cpu", "0"), "cpu");
  for (const char* all : {"30", "99", "all", "-1", "auto"}) {
    EXPECT_EQ(choose("cpu", all), "cuda") << all;
    EXPECT_EQ(choose("cuda:1", all), "cuda:1") << all;
  }
  EXPECT_EQ(choose("cpu", "auto", false), "cpu");
  EXPECT_EQ(choose("cpu", "0", false), "cpu");
  for (const char* refused : {"1", "29", "some", "3x", "-2"})
    EXPECT_THROW(choose("cpu", refused), Error) << refused;
  EXPECT_THROW(choose("cuda", "0"), Error);
  EXPECT_THROW(choose("cpu", "99", false), Error);
  try {
    choose("cpu", "12");
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("30 layers"));
  }
}

TEST(BenchGridTest, EveryCombination) {
  BenchLists lists;
  lists.prompt = "512,0";
  lists.gen = "32";
  lists.depth = "0,4096";
  lists.prompt_gen = {"64,16"};
  lists.types_k = {"turbo4", "f16"};
  lists.types_v = {"turbo3"};
  const auto grid = BenchGrid(lists);
  ASSERT_EQ(grid.size(), 12u);
  EXPECT_EQ(grid[0].Name(), "pp512");
  EXPECT_EQ(grid[1].Name(), "tg32");
  EXPECT_EQ(grid[2].Name(), "pp64+tg16");
  EXPECT_EQ(grid[3].Name(), "pp512 @ d4096");
  EXPECT_EQ(grid[11].type_k, "f16");
}

std::string RefusedTypes(const std::string& text) {
  try {
    ParseCompareTypes({text});
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(CompareTypesTest, PairsListsAndPolicies) {
  EXPECT_THAT(ParseCompareTypes({"q8_0,turbo4/turbo3", "turbo4:0-3,q8_0:4-29/turbo3", "q8_0"}),
              ElementsAre(CompareType{"q8_0", "q8_0"}, CompareType{"turbo4", "turbo3"},
                          CompareType{"turbo4:0-3,q8_0:4-29", "turbo3"}));
  EXPECT_EQ((CompareType{"a", "b"}).Name(), "a / b");
}

TEST(CompareTypesTest, CuresAreSwitchedOffByOptions) {
  const std::vector<CompareType> types = ParseCompareTypes(
      {"turbo3+window=0+sinks=256,turbo4/turbo3+no-centring,turbo4+bare,turbo3+tokens"});
  ASSERT_EQ(types.size(), 4u);
  EXPECT_EQ(types[0].window, 0);
  EXPECT_EQ(types[0].sinks, 256);
  EXPECT_FALSE(types[0].IsSimulated());
  EXPECT_EQ(types[0].Name(), "turbo3 +window=0 +sinks=256");
  EXPECT_EQ(types[1].v, "turbo3");
  EXPECT_TRUE(types[1].no_centring && types[1].IsSimulated());
  EXPECT_TRUE(types[2].IsBare() && types[2].no_calibration && types[2].IsSimulated());
  EXPECT_EQ(types[2].Name(), "turbo4 +bare");
  EXPECT_TRUE(types[3].IsSimulated() && !types[3].IsBare());
}

TEST(CompareTypesTest, AgesStandAlone) {
  const std::vector<CompareType> types =
      ParseCompareTypes({"turbo4/turbo3+age=512:tbq3,1024:turbo3/turbo2+window=0", "turbo3"});
  ASSERT_EQ(types.size(), 2u);
  EXPECT_EQ(types[0].ages, "512:turbo3,1024:turbo3/turbo2");
  EXPECT_EQ(types[0].Name(), "turbo4 / turbo3 +window=0 +age=512:turbo3,1024:turbo3/turbo2");
  EXPECT_FALSE(types[0].IsSimulated());
  EXPECT_THAT(RefusedTypes("turbo4+age=512:turbo9"),
              testing::AllOf(testing::HasSubstr("column 11"), testing::HasSubstr("turbo9")));
  EXPECT_THAT(RefusedTypes("turbo4+age"), testing::HasSubstr("empty"));
}

TEST(CompareTypesTest, IdeasAreOptionsToo) {
  for (const lab::IdeaInfo& idea : lab::kIdeas) {
    const std::string option = std::string(idea.name) + (idea.TakesNumber() ? "=0.5" : "");
    const CompareType type = ParseCompareTypes({"turbo3+bare+" + option}).front();
    EXPECT_TRUE(type.ideas.Has(idea.idea) && type.IsSimulated());
    EXPECT_EQ(type.Name(), "turbo3 +bare +" + option);
    EXPECT_EQ(ParseCompareTypes({"turbo3+" + option}).front().Name(), "turbo3 +" + option);
    EXPECT_THAT(CompareOptions(), testing::HasSubstr(idea.Option()));
  }
  EXPECT_EQ(ParseCompareTypes({"turbo3+alpha=1.04"}).front().ideas.Number(lab::Idea::kAlpha), 1.04);
  EXPECT_EQ(ParseCompareTypes({"turbo3,turbo3+qjl"}).size(), 2u);
}

TEST(CompareTypesTest, ErrorsNameTheColumn) {
  using testing::HasSubstr;
  EXPECT_THAT(RefusedTypes("a,,b"), HasSubstr("column 3: a type is missing"));
  EXPECT_THAT(RefusedTypes("a/"), HasSubstr("column 3"));
  EXPECT_THAT(RefusedTypes("a/b/c"), HasSubstr("column 4: a second slash"));
  EXPECT_THAT(RefusedTypes("a,b+windw=0"), HasSubstr("column 5: unknown option \"windw=0\""));
  EXPECT_THAT(RefusedTypes("b+window=x"), HasSubstr("column 9: a number of tokens is missing"));
  EXPECT_THAT(RefusedTypes("b+sinks"), HasSubstr("a number of tokens is missing"));
  EXPECT_THAT(RefusedTypes("b+"), HasSubstr("unknown option"));
  EXPECT_THAT(RefusedTypes("b+alpha=0"), HasSubstr("column 8: alpha=F wants a number in (0, 4]"));
  EXPECT_THAT(RefusedTypes("b+alpha=4.5"), HasSubstr("in (0, 4]"));
  EXPECT_THAT(RefusedTypes("b+alpha"), HasSubstr("column 8: alpha=F wants"));
  EXPECT_THAT(RefusedTypes("b+sparse-v=x"), HasSubstr("in [0, 1]"));
  EXPECT_THAT(RefusedTypes("b+qjl=1"), HasSubstr("column 6: qjl takes no number"));
}

TEST(AblationPlanTest, EveryCureIsAddedAndLeftAwayOnce) {
  for (const bool calibrated : {false, true}) {
    const std::vector<AblationStep> plan = AblationPlan(3, calibrated);
    const auto count = [&](AblationKind kind) {
      return std::count_if(plan.begin(), plan.end(),
                           [&](const AblationStep& step) { return step.kind == kind; });
    };
    EXPECT_EQ(count(AblationKind::kAdded), count(AblationKind::kRemoved));
    EXPECT_EQ(count(AblationKind::kFull), 2);  // product and simulated
    EXPECT_EQ(plan.front().title, "none");
    EXPECT_TRUE(plan.front().type.tokens && plan.front().type.no_centring);
    EXPECT_EQ(plan.front().type.IsBare(), calibrated);
    // All but the last one added is the full set without the last: the only two that are the same.
    int same = 0;
    for (size_t i = 0; i < plan.size(); ++i) {
      for (size_t j = 0; j < i; ++j) same += plan[i].type == plan[j].type;
    }
    EXPECT_EQ(same, 1);
  }
}

TEST(EscapesTest, AsLlamaCpp) {
  EXPECT_EQ(ProcessEscapes(R"(a\nb\t\\\"\x41\q)"), "a\nb\t\\\"A\\q");
  EXPECT_EQ(ProcessEscapes("end\\"), "end\\");
  EXPECT_EQ(ProcessEscapes("\\x4"), "\\x4");
}

}  // namespace
}  // namespace tq::app
