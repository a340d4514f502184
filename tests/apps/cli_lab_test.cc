// SPDX-License-Identifier: Apache-2.0
// turboquant lab list, run and report as a user runs them, on a tiny model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "apps/exit_codes.h"
#include "lab/experiments/experiment.h"
#include "tests/apps/cli_model.h"
#include "tests/apps/cli_process.h"

namespace tq::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::string ReadAll(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string InFolder(const char* name) { return (CliFolder() / name).string(); }

CliResult QuickRun(const std::vector<std::string>& ids, const std::string& output) {
  std::vector<std::string> words = {"lab", "run"};
  words.insert(words.end(), ids.begin(), ids.end());
  words.insert(words.end(), {"--quick", "-m", TinyModelFile(), "-t", "2", "-o", output});
  return RunCli(words, {.seconds = 240});  // machines may be busy
}

// What the command prints for both together.
nlohmann::json RunJson(std::vector<std::string> words, const std::vector<std::string>& more) {
  words.insert(words.end(), more.begin(), more.end());
  const CliResult result = RunCli(words, {.seconds = 240});
  EXPECT_EQ(result.status, app::kExitOk) << result.err;
  return nlohmann::json::parse(result.out);
}

TEST(CliLabTest, ListShowsEveryExperiment) {
  const CliResult result = RunCli({"lab", "list"});
  EXPECT_EQ(result.status, app::kExitOk) << result.err;
  for (const lab::Experiment& e : lab::Experiments()) {
    EXPECT_THAT(result.out,
                AllOf(HasSubstr(std::string(e.id) + "  "), HasSubstr(std::string(e.published)),
                      HasSubstr(std::string(e.verdict))));
  }
}

TEST(CliLabTest, AnUnknownIdIsRefusedWithAHint) {
  const CliResult result = RunCli({"lab", "run", "e5416c"});
  EXPECT_EQ(result.status, app::kExitUsage);
  EXPECT_THAT(result.err, AllOf(HasSubstr("e5416b"), HasSubstr("lab list")));
}

TEST(CliLabTest, MeasuresJudgesKeepsAndReports) {
  const std::string file = InFolder("figures.jsonl");
  const CliResult first =
      QuickRun({"c9ca34", "d4375d", "70847d", "466df6", "e426cb", "c05db2", "d6b923"}, file);
  ASSERT_EQ(first.status, app::kExitOk) << first.err;
  EXPECT_THAT(first.out, AllOf(HasSubstr("neutral: skip at 3 bits"), HasSubstr("simulated"),
                               HasSubstr("not runnable here"), HasSubstr("turbo3 dim=256"),
                               HasSubstr("tg8 @ d512"), HasSubstr("lab run c9ca34 -m "),
                               HasSubstr("Mval/s"), HasSubstr("4 texts of 1024 tokens")));
  EXPECT_THAT(first.err, HasSubstr("7 experiments: "));

  // What is in the file is not measured again.
  const CliResult second = QuickRun({"c9ca34", "70847d"}, file);
  ASSERT_EQ(second.status, app::kExitOk) << second.err;
  EXPECT_THAT(second.err, Not(HasSubstr("comparing")));
  EXPECT_THAT(second.out, HasSubstr("turbo3+tokens+sinks=4"));

  const std::string page = InFolder("report.html"), json_file = InFolder("report.json");
  const CliResult report = RunCli({"lab", "report", "-i", file, "-o", page, "--json", json_file});
  ASSERT_EQ(report.status, app::kExitOk) << report.err;
  EXPECT_THAT(ReadAll(page), AllOf(HasSubstr("<svg"), HasSubstr("turbo3+tokens+sinks=4"),
                                   HasSubstr("id=\"proposed-11\"")));
  const auto json = nlohmann::json::parse(ReadAll(json_file));
  int results = 0;
  for (const auto& experiment : json["experiments"]) {
    for (const auto& result : experiment["results"]) {
      ++results;
      for (const auto& row : result["rows"])
        EXPECT_GE(row["figure"], result["unit"] == "found" ? 0 : 1e-9) << row;
    }
  }
  EXPECT_EQ(results, 6);
}

TEST(CliLabTest, ARowThatTheModelLacksIsSaid) {
  const CliResult result = QuickRun({"proposed-7"}, InFolder("layers.jsonl"));
  ASSERT_EQ(result.status, app::kExitOk) << result.err;
  EXPECT_THAT(result.out,
              AllOf(HasSubstr("needs a model of 5 layers or more"), HasSubstr("not measured")));
}

TEST(CliLabTest, NeedlesAreAskedOnceAndCompared) {
  const std::string file = InFolder("needles.jsonl"), svg = InFolder("needles.svg");
  const std::vector<std::string> words = {"lab",
                                          "needle",
                                          "-m",
                                          TinyModelFile(),
                                          "-t",
                                          "2",
                                          "-f",
                                          LongTextFile(),
                                          "-c",
                                          "512,640",
                                          "--tasks",
                                          "multi-key,multi-value,single",
                                          "--depths",
                                          "2",
                                          "--types",
                                          "turbo3,turbo3+bare",
                                          "--no-calibration",
                                          "-o",
                                          file,
                                          "--svg",
                                          svg,
                                          "--json"};
  RunJson(words, {"--trials", "1"});
  const std::string before = ReadAll(file);
  EXPECT_EQ(std::ranges::count(before, '\n'), 1 + 3 * 3 * 2);
  const auto json = RunJson(words, {"--trials", "2"});
  EXPECT_THAT(ReadAll(file), testing::StartsWith(before));  // nothing was asked again
  EXPECT_EQ(json["trials"], 2);
  ASSERT_EQ(json["rows"].size(), 3u);
  EXPECT_TRUE(json["rows"][0]["reference"]);
  EXPECT_TRUE(json["rows"][2]["simulated"]);
  for (const auto& row : json["rows"]) {
    ASSERT_EQ(row["cells"].size(), 6u);
    for (const auto& cell : row["cells"]) {
      EXPECT_EQ(cell["asked"], 4);
      EXPECT_LT(cell["log_prob"], 0);
      EXPECT_EQ(cell["depths"].size(), 2u);
      EXPECT_EQ(cell["depths"][1]["depth"], 0.75);
    }
  }
  // The cache changes what a random model believes, a little.
  const double f16 = json["rows"][0]["cells"][0]["log_prob"],
               turbo = json["rows"][2]["cells"][0]["log_prob"];
  EXPECT_NE(f16, turbo);
  EXPECT_NEAR(f16, turbo, 0.2 * std::abs(f16));
  EXPECT_THAT(ReadAll(svg), AllOf(HasSubstr("<svg"), HasSubstr("multi-value: f16")));
}

TEST(CliLabTest, TrajectoriesPart) {
  const std::string file = InFolder("trajectories.jsonl");
  const std::vector<std::string> words = {"lab",
                                          "trajectory",
                                          "-m",
                                          TinyModelFile(),
                                          "-t",
                                          "2",
                                          "-f",
                                          LongTextFile(),
                                          "-c",
                                          "300",
                                          "-n",
                                          "12",
                                          "--types",
                                          "f32,turbo2+bare",
                                          "--no-calibration",
                                          "-o",
                                          file,
                                          "--json"};
  RunJson(words, {"--chunks", "1"});
  const std::string before = ReadAll(file);
  EXPECT_EQ(std::ranges::count(before, '\n'), 1 + 3);
  const auto json = RunJson(words, {"--chunks", "3"});
  EXPECT_THAT(ReadAll(file), testing::StartsWith(before));
  EXPECT_EQ(json["prompts"], 3);
  ASSERT_EQ(json["rows"].size(), 2u);
  EXPECT_EQ(json["rows"][0]["name"], "f32");
  EXPECT_GE(json["rows"][0]["first_difference"], json["rows"][1]["first_difference"]);
  EXPECT_LT(json["rows"][1]["agreement"], 1);
}

TEST(CliLabTest, AContextBeyondTheModelIsRefused) {
  const CliResult result = RunCli({"lab", "needle", "-m", TinyModelFile(), "-c", "4096"});
  EXPECT_EQ(result.status, app::kExitUsage);
  EXPECT_THAT(result.err, HasSubstr("tiny has a context of 2048 tokens"));
}

TEST(CliLabTest, AReportOfNothingSaysWhatToRun) {
  const CliResult result =
      RunCli({"lab", "report", "-i", InFolder("none.jsonl"), "-o", InFolder("none.html")});
  EXPECT_EQ(result.status, app::kExitBadInput);
  EXPECT_THAT(result.err, HasSubstr("lab run"));
}

}  // namespace
}  // namespace tq::test
