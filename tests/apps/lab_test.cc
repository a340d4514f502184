// SPDX-License-Identifier: Apache-2.0
// Rows of experiments, records of results and the page made of them, on made-up figures.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "apps/experiment_rows.h"
#include "apps/lab_page.h"
#include "apps/lab_record.h"
#include "lab/markup.h"
#include "tests/support/temp_folder.h"
#include "turboquant/base/error.h"

namespace tq::app {
namespace {

using lab::Experiment;
using lab::Measure;
using lab::Relation;
using testing::HasSubstr;
using testing::Not;
using testing_support::TempFolder;

const Experiment kMadeUp = {.id = "made-up",
                            .title = "",
                            .hypothesis = "",
                            .published = "",
                            .verdict = "",
                            .source = "",
                            .measure = Measure::kSpeed,
                            .claims = {{"faster", "a", Relation::kBetter, "b"},
                                       {"as fast", "a", Relation::kSame, "c", 0.5}}};

std::map<std::string, MeasuredRow> Rows(const std::map<std::string, lab::Estimate>& figures) {
  std::map<std::string, MeasuredRow> rows;
  for (const auto& [name, figure] : figures) rows[name] = {.name = name, .figure = figure};
  return rows;
}

LabRecord Judged(const std::map<std::string, lab::Estimate>& figures) {
  const auto rows = Rows(figures);
  LabRecord record;
  JudgeExperiment(kMadeUp, rows, UnpairedGain(Measure::kSpeed, rows), record);
  return record;
}

LabRecord RecordOf(const std::string& id) {
  LabRecord record;
  record.id = id;
  record.conditions = {.build = "abc", .device = "cpu", .model = "a <b> & \"c\"", .quick = true};
  record.unit = "KLD";
  record.command = "turboquant lab run <x>";
  record.rows = {{.name = "turbo3", .figure = {0.02, 0.001}, .bits_per_value = 3.1},
                 {.name = "turbo2", .simulated = true, .figure = {0.2, 0.01}}};
  record.claims = {{.text = "t",
                    .a = "turbo3",
                    .relation = "better than",
                    .b = "turbo2",
                    .gain = {0.18, 0.01},
                    .verdict = lab::Verdict::kConfirmed},
                   {.text = "u", .a = "turbo3", .relation = "better than", .b = "x"}};
  return record;
}

TEST(ExperimentRowsTest, EveryRowOfTheListParses) {
  for (const Experiment& e : lab::Experiments()) {
    for (const std::string& row : lab::RowsOf(e)) {
      const auto why = WhyNotInBuild(e.measure, row);
      EXPECT_FALSE(why) << e.id << ": " << row << ": " << why.value_or("");
    }
  }
}

TEST(ExperimentRowsTest, LayersCountFromTheLast) {
  const std::string row = "turbo3/q8_0:0-1,turbo2:2-{-3},q8_0:{-2}-{-1}";
  EXPECT_EQ(ParseDivergenceRow(row, 30).v, "q8_0:0-1,turbo2:2-27,q8_0:28-29");
  EXPECT_THROW(ParseDivergenceRow(row, 4), Error);
}

TEST(ExperimentRowsTest, SpeedsHaveDepthPromptAndPass) {
  const lab::BenchCase decode = ParseSpeedRow("q8_0/turbo3", 4096, 32, false);
  EXPECT_EQ(decode.Name(), "tg32 @ d4096");
  EXPECT_EQ(decode.type_v, "turbo3");
  const lab::BenchCase prompt = ParseSpeedRow("turbo3 pp=512 d=0 ub=128", 4096, 32, false);
  EXPECT_EQ(prompt.Name(), "pp512");
  EXPECT_EQ(prompt.n_ubatch, 128);
  EXPECT_EQ(ParseSpeedRow("f16", 4096, 8, true).n_depth, 512);
  EXPECT_TRUE(WhyNotInBuild(Measure::kSpeed, "turbo3 depth=4"));
  EXPECT_TRUE(WhyNotInBuild(Measure::kSpeed, "turbo3+bare"));
  EXPECT_TRUE(WhyNotInBuild(Measure::kDivergence, "turbo3+no-such-option"));
  EXPECT_TRUE(WhyNotInBuild(Measure::kDivergence, "turbo33"));
  EXPECT_TRUE(WhyNotInBuild(Measure::kNoise, "turbo3 dim=x"));
  EXPECT_TRUE(WhyNotInBuild(Measure::kBasis, "turbo3 sideways"));
}

TEST(JudgeExperimentTest, EachClaimByItsRule) {
  const LabRecord good = Judged({{"a", {10, 1}}, {"b", {5, 1}}, {"c", {11, 1}}});
  EXPECT_EQ(good.Verdict(), "confirmed");
  EXPECT_EQ(good.unit, "tok/s");
  EXPECT_DOUBLE_EQ(good.claims[1].margin, 5.5);
  EXPECT_EQ(Judged({{"a", {10, 1}}, {"b", {20, 1}}, {"c", {11, 1}}}).Verdict(), "contradicted");
  EXPECT_EQ(Judged({{"a", {10, 4}}, {"b", {5, 1}}, {"c", {11, 1}}}).Verdict(), "undecided");
}

TEST(JudgeExperimentTest, WhatWasNotMeasuredIsNotJudged) {
  const LabRecord half = Judged({{"a", {10, 1}}, {"b", {5, 1}}});
  EXPECT_EQ(half.Verdict(), "undecided");
  EXPECT_FALSE(half.claims[1].verdict);
  EXPECT_EQ(Judged({{"a", {10, 1}}}).Verdict(), "not measured");
}

TEST(LabFileTest, RecordsComeBackAndACutLineIsLeftOut) {
  const TempFolder folder;
  const std::filesystem::path path = folder.path() / "deep" / "results.jsonl";
  EXPECT_TRUE(ReadLabFile(path).empty());
  AppendToLabFile(path, RecordOf("e5416b"));
  AppendToLabFile(path, RecordOf("f0f034"));
  std::ofstream(path, std::ios::app) << "{\"format\":";
  const std::vector<LabRecord> records = ReadLabFile(path);
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(ToJson(records[1]), ToJson(RecordOf("f0f034")));
  LabConditions conditions = records[0].conditions;
  EXPECT_EQ(FindRecord(records, "e5416b", conditions), &records[0]);
  conditions.quick = false;
  EXPECT_EQ(FindRecord(records, "e5416b", conditions), nullptr);
  AppendToLabFile(path, RecordOf("e5416b"));
  EXPECT_EQ(ReadLabFile(path).size(), 3u);  // the rest of the cut line is gone
}

TEST(LabFileTest, ADamagedLineIsNamed) {
  const TempFolder folder;
  const std::filesystem::path path = folder.path() / "results.jsonl";
  std::ofstream(path) << ToJson(RecordOf("e5416b")) << "\nnonsense\n";
  try {
    ReadLabFile(path);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCorruptFile);
    EXPECT_THAT(error.what(), HasSubstr("line 2"));
  }
}

TEST(LabFileTest, AFileOfSomethingElseIsRefusedAndKept) {
  const TempFolder folder;
  const std::filesystem::path path = folder.path() / "notes.txt";
  std::ofstream(path) << "a line without an end";
  EXPECT_THROW(ReadLabFile(path), Error);
  EXPECT_EQ(std::filesystem::file_size(path), 21u);
}

TEST(LabPageTest, HasEveryExperimentAndEscapesText) {
  const std::string page = LabPage({RecordOf("e5416b")});
  for (const Experiment& e : lab::Experiments()) {
    EXPECT_THAT(page, HasSubstr("id=\"" + std::string(e.id) + "\""));
    EXPECT_THAT(page, HasSubstr(lab::EscapeMarkup(e.published)));
  }
  EXPECT_THAT(page, HasSubstr("a &lt;b&gt; &amp; &quot;c&quot;"));
  EXPECT_THAT(page, HasSubstr("lab run &lt;x&gt;"));
  EXPECT_THAT(page, Not(HasSubstr("<b>")));
  EXPECT_THAT(page, Not(HasSubstr("<x>")));
  EXPECT_THAT(page, HasSubstr("<svg"));
  EXPECT_THAT(page, HasSubstr("0.02000 ± 0.00100"));
  EXPECT_THAT(page, HasSubstr("simulated"));
  for (const char* outside : {"src=", "<script", "<link", "@import", "url("})
    EXPECT_THAT(page, Not(HasSubstr(outside)));
}

TEST(LabPageTest, JsonHasTheSame) {
  const auto json = nlohmann::json::parse(LabJson({RecordOf("e5416b")}));
  ASSERT_EQ(json["experiments"].size(), lab::Experiments().size());
  EXPECT_EQ(json["experiments"][0]["id"], "e5416b");
  EXPECT_EQ(json["experiments"][0]["results"][0]["verdict"], "undecided");
  EXPECT_TRUE(json["experiments"][1]["results"].empty());
}

TEST(LabPageTest, TheNewestOfTheSameConditionsIsShown) {
  LabRecord old = RecordOf("e5416b"), newer = old, full = old;
  old.date = "1";
  newer.date = "2";
  newer.conditions.build = "def";
  full.conditions.quick = false;
  const auto newest = NewestRecords({old, newer, full});
  ASSERT_EQ(newest.size(), 2u);
  EXPECT_EQ(newest[0].date, "2");
}

}  // namespace
}  // namespace tq::app
