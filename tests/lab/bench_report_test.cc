// SPDX-License-Identifier: Apache-2.0
#include "lab/bench_report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace tq::lab {
namespace {

BenchMachine Machine() {
  return {.build_commit = "abc1234",
          .cpu_info = "A \"fine\" CPU",
          .backend = "CPU",
          .gpu_info = "",
          .model_filename = "m.gguf",
          .model_type = "llama 135M Q4_1",
          .model_size = 98362432,
          .model_n_params = 134515008,
          .n_threads = 2};
}

BenchResult Result() {
  BenchResult result;
  result.test = {.n_prompt = 0,
                 .n_gen = 32,
                 .n_depth = 4096,
                 .n_batch = 2048,
                 .n_ubatch = 512,
                 .type_k = "turbo4",
                 .type_v = "turbo3"};
  result.test_time = "2026-01-01T00:00:00Z";
  result.samples_ns = {160000000, 320000000};  // 200 and 100 tok/s
  result.kv_bytes_per_token = 5000;
  return result;
}

TEST(BenchCaseTest, Names) {
  EXPECT_EQ((BenchCase{.n_prompt = 512}).Name(), "pp512");
  EXPECT_EQ((BenchCase{.n_gen = 32, .n_depth = 4096}).Name(), "tg32 @ d4096");
  EXPECT_EQ((BenchCase{.n_prompt = 512, .n_gen = 128}).Name(), "pp512+tg128");
}

TEST(BenchReportTest, MarkdownAsLlamaBench) {
  BenchReport report(BenchFormat::kMarkdown, Machine(), true);
  EXPECT_EQ(report.Header(),
            "| model                          |       size |     params | backend    | threads | "
            "type_k | type_v |            test |"
            "                  t/s |\n"
            "| ------------------------------ | ---------: | ---------: | ---------- | ------: | "
            "-----: | -----: | --------------: |"
            " -------------------: |\n");
  EXPECT_EQ(report.Row(Result()),
            "| llama 135M Q4_1                |  93.81 MiB |   134.52 M | CPU        |       2 | "
            "turbo4 | turbo3 |    tg32 @ d4096 |"
            "       150.00 ± 70.71 |\n");
  EXPECT_EQ(report.Footer(), "\nbuild: abc1234 (0)\n");
}

TEST(BenchReportTest, JsonParses) {
  BenchReport report(BenchFormat::kJson, Machine(), true);
  std::string text = report.Header();
  text += report.Row(Result());
  text += report.Row(Result());
  text += report.Footer();
  const auto json = nlohmann::json::parse(text);
  ASSERT_EQ(json.size(), 2u);
  EXPECT_EQ(json[1]["n_depth"], 4096);
  EXPECT_EQ(json[1]["cpu_info"], "A \"fine\" CPU");
  EXPECT_DOUBLE_EQ(json[1]["avg_ts"].get<double>(), 150);
  EXPECT_EQ(json[1]["samples_ns"], nlohmann::json::array({160000000, 320000000}));
  EXPECT_EQ(json[1]["kv_bytes_per_token"], 5000);
}

TEST(BenchReportTest, JsonLinesAndCsv) {
  BenchReport lines(BenchFormat::kJsonLines, Machine(), true);
  const std::string first = lines.Row(Result());
  EXPECT_EQ(first.find('\n'), first.size() - 1);
  EXPECT_EQ(nlohmann::json::parse(first)["type_v"], "turbo3");
  BenchReport csv(BenchFormat::kCsv, Machine(), true);
  const std::string text = csv.Row(Result());
  EXPECT_EQ(text.substr(0, 25), "build_commit,build_number");
  EXPECT_NE(text.find("\n\"abc1234\",\"0\","), std::string::npos);
  EXPECT_EQ(csv.Row(Result()).find("build_commit"), std::string::npos);  // the header comes once
}

}  // namespace
}  // namespace tq::lab
