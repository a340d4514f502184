// SPDX-License-Identifier: Apache-2.0
// Every command run as a user runs it, on a tiny model: what it prints, and in which formats.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <sstream>

#include "apps/exit_codes.h"
#include "lab/npy_file.h"
#include "tests/apps/cli_model.h"
#include "tests/apps/cli_process.h"
#include "turboquant/codec/codec.h"

namespace tq::test {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ContainsRegex;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;
using Words = std::vector<std::string>;

Words Tiny(const std::string& command, const Words& more) {
  Words words = {command, "-m", TinyModelFile()};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

CliResult RunWell(const Words& words, const CliOptions& options = {}) {
  CliResult result = RunCli(words, options);
  EXPECT_EQ(result.status, app::kExitOk) << testing::PrintToString(words) << "\n" << result.err;
  // Not a terminal: no bar that redraws itself.
  EXPECT_THAT(result.err, AllOf(Not(HasSubstr("\r")), Not(HasSubstr("\x1b"))));
  return result;
}

// Greedy, `n` tokens, only what is generated.
std::string Generated(const Words& more, const CliOptions& options = {}) {
  Words words = Tiny("run", {"--temp", "0", "--ignore-eos", "--no-display-prompt"});
  words.insert(words.end(), more.begin(), more.end());
  return RunWell(words, options).out;
}

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

// The fields of a line of quoted values, as llama-bench writes them.
std::vector<std::string> CsvFields(const std::string& line) {
  std::vector<std::string> fields(1);
  bool quoted = false;
  for (const char c : line) {
    if (c == '"') {
      quoted = !quoted;
    } else if (c == ',' && !quoted) {
      fields.emplace_back();
    } else {
      fields.back() += c;
    }
  }
  return fields;
}

TEST(CliTest, VersionNamesTheInstructionSets) {
  EXPECT_THAT(RunWell({"--version"}).out, ContainsRegex("turboquant [0-9.]+ .*cpu:.* scalar"));
}

TEST(CliTest, HelpListsCommandsAndExitCodes) {
  const std::string help = RunWell({"--help"}).out;
  for (const char* command :
       {"run", "chat", "compare", "perplexity", "recommend", "bench", "inspect", "lab", "tokenize",
        "calibrate", "fetch", "doctor", "codec", "dump-kv"}) {
    EXPECT_THAT(help, HasSubstr(command));
    EXPECT_THAT(RunWell({command, "--help"}).out, HasSubstr("Usage:"));
  }
  EXPECT_THAT(help, HasSubstr("Exit codes: 0 done"));
}

TEST(RunTest, PromptThenContinuationAndFiguresBeside) {
  const CliResult result = RunWell(Tiny("run", {"-p", "The cat", "-n", "8", "--temp", "0"}));
  EXPECT_THAT(result.out, AllOf(StartsWith("The cat"), EndsWith("\n")));
  EXPECT_THAT(result.err, AllOf(HasSubstr("cache    K turbo4_tcq, V turbo3_tcq"),
                                HasSubstr("bits per value"), HasSubstr("tok/s")));
}

TEST(RunTest, GreedyAndSeededRunsRepeat) {
  const std::string text = Generated({"-p", "The cat", "-n", "12"});
  EXPECT_EQ(Generated({"-p", "The cat", "-n", "12"}), text);
  const Words sampled = {"-p", "The cat", "-n", "12", "--temp", "2", "--top-k", "10", "--seed"};
  const auto with_seed = [&](const char* seed) {
    Words words = sampled;
    words.push_back(seed);
    return Generated(words);
  };
  EXPECT_EQ(with_seed("7"), with_seed("7"));
  EXPECT_NE(with_seed("7"), with_seed("8"));
}

TEST(RunTest, TextFromFileAndStandardInput) {
  const fs::path file = CliFolder() / "prompt.txt";
  std::ofstream(file) << "The cat";
  const std::string text = Generated({"-p", "The cat", "-n", "6"});
  EXPECT_EQ(Generated({"-f", file.string(), "-n", "6"}), text);
  EXPECT_EQ(Generated({"-f", "-", "-n", "6"}, {.input = "The cat"}), text);
}

TEST(RunTest, StopsAtATextThatIsNotPrinted) {
  const std::string text = Generated({"-p", "The cat", "-n", "12"});
  const std::string stop = text.substr(text.size() / 2, 1);
  EXPECT_EQ(Generated({"-p", "The cat", "-n", "12", "-r", stop}),
            text.substr(0, text.find(stop)) + "\n");
}

TEST(RunTest, VariablesStandInForFlagsAndFlagsBeatThem) {
  const CliOptions variables = {
      .environment = {"LLAMA_ARG_MODEL=" + TinyModelFile(), "LLAMA_ARG_N_PREDICT=6",
                      "LLAMA_ARG_CTX_SIZE=96", "LLAMA_ARG_CACHE_TYPE_K=q8_0",
                      "LLAMA_ARG_CACHE_TYPE_V=q4_0", "LLAMA_ARG_THREADS=1"}};
  const Words words = {"run", "-p", "The cat", "--temp", "0", "--ignore-eos"};
  const CliResult by_variable = RunWell(words, variables);
  EXPECT_THAT(by_variable.err, AllOf(HasSubstr("K q8_0, V q4_0"), HasSubstr("context  96 tokens"),
                                     HasSubstr("1 thread"), HasSubstr("generated 6 tokens")));
  Words flags = words;
  flags.insert(flags.end(), {"-n", "3", "-c", "64", "-ctk", "f16"});
  EXPECT_THAT(RunWell(flags, variables).err,
              AllOf(HasSubstr("K f16, V q4_0"), HasSubstr("context  64 tokens"),
                    HasSubstr("generated 3 tokens")));
}

TEST(RunTest, PolicyPerLayerIsSaid) {
  EXPECT_THAT(
      RunWell(Tiny("run", {"-p", "a", "-n", "1", "-ctk", "q8_0:0,turbo4:1", "-ctv", "tbq3"})).err,
      HasSubstr("K q8_0:0,turbo4:1, V turbo3"));
}

TEST(RunTest, FullContextEndsAndSaysSo) {
  const CliResult result =
      RunWell(Tiny("run", {"-p", "a", "-c", "24", "--ignore-eos", "--temp", "0"}));
  EXPECT_THAT(result.err, HasSubstr("the context of 24 tokens is full"));
}

TEST(RunTest, SessionGoesOnAsIfItHadNeverEnded) {
  const std::string session = (CliFolder() / "story.tq").string();
  const std::string whole = Generated({"-p", "The cat", "-n", "16", "-c", "64"});
  const std::string first =
      Generated({"-p", "The cat", "-n", "8", "-c", "64", "--session", session});
  ASSERT_TRUE(fs::exists(session));
  const std::string second = Generated({"-n", "8", "-c", "64", "--session", session});
  EXPECT_EQ(first.substr(0, first.size() - 1) + second, whole);
}

TEST(RunTest, ControlCEndsCleanlyAndSavesTheSession) {
  const std::string session = (CliFolder() / "interrupted.tq").string();
  const std::string begun =
      "The cat" + Generated({"-p", "The cat", "-n", "4"}).substr(0, 4);  // past the prompt
  const CliResult result =
      RunCli(Tiny("run", {"-p", "The cat", "-n", "-1", "-c", "1000000", "--temp", "0",
                          "--ignore-eos", "--session", session}),
             {.interrupt_after = begun});
  EXPECT_EQ(result.status, app::kExitInterrupted) << result.err;
  EXPECT_THAT(result.out, StartsWith(begun));
  EXPECT_THAT(result.err, AllOf(HasSubstr("tok/s"), HasSubstr("session saved")));
  EXPECT_TRUE(fs::exists(session));
}

TEST(ChatTest, TurnsAndCommandsFromStandardInput) {
  const std::string kept = (CliFolder() / "chat.tq").string();
  const CliResult result =
      RunWell(Tiny("chat", {"--chat-template", "chatml", "-n", "4", "-c", "512"}),
              {.input = "Hello\n/stats\n/save " + kept + "\n/clear\n/load " + kept +
                        "\nAgain\n/load /nowhere/x\n/dance\n/exit\nnot read\n"});
  EXPECT_THAT(result.err, AllOf(HasSubstr("saved "), HasSubstr("cleared"), HasSubstr("2 messages"),
                                HasSubstr("error: "), HasSubstr("/nowhere/x"),
                                HasSubstr("unknown command /dance"), HasSubstr("tok/s")));
  EXPECT_EQ(Lines(result.out).size(), 2u) << result.out;
  EXPECT_TRUE(fs::exists(kept));
}

TEST(ChatTest, MakesRoomWhenTheContextIsFull) {
  std::string input;
  for (int i = 0; i < 12; ++i) input += "Tell me more about the cat\n";
  const CliResult result =
      RunWell(Tiny("chat", {"--chat-template", "chatml", "-n", "8", "-c", "160", "--ignore-eos"}),
              {.input = input});
  EXPECT_THAT(result.err, HasSubstr("context full: dropped"));
  EXPECT_THAT(result.err, Not(HasSubstr("error")));
}

TEST(CompareTest, TableAndJson) {
  const Words words = Tiny("compare", {"-f", LongTextFile(), "-c", "256", "--chunks", "1",
                                       "--types", "f32,turbo4/turbo3,turbo2", "--decode", "2"});
  const std::string table = RunWell(words).out;
  EXPECT_THAT(
      table, AllOf(HasSubstr("bits/value"), HasSubstr("KiB/token"), HasSubstr("KLD mean"),
                   HasSubstr("median"), HasSubstr("99.9 %"), HasSubstr("same top"),
                   HasSubstr("PPL ratio"), HasSubstr("tok/s @ 256"), HasSubstr("turbo4 / turbo3")));
  Words json_words = words;
  json_words.push_back("--json");
  const nlohmann::json json = nlohmann::json::parse(RunWell(json_words).out);
  ASSERT_EQ(json["rows"].size(), 4u);
  EXPECT_EQ(json["positions"], 127);
  EXPECT_EQ(json["complete"], true);
  EXPECT_EQ(json["rows"][0]["type_k"], "f16");
  EXPECT_EQ(json["rows"][0]["reference"], true);
  for (const auto& row : json["rows"]) {
    EXPECT_GT(row["bits_per_value"], 2.0);
    EXPECT_GT(row["decode_tokens_per_second"], 0.0);
    if (row["reference"]) continue;
    EXPECT_GE(row["kld_mean"], 0.0);
    EXPECT_LE(row["kld_median"], row["kld_99_9"]);
    EXPECT_GT(row["ppl_ratio"], 0.0);
  }
  EXPECT_LT(json["rows"][1]["kld_mean"], json["rows"][3]["kld_mean"]);  // f32, turbo2
}

Words CompareWords(const std::string& types, Words more) {
  Words words = Tiny("compare",
                     {"-f", LongTextFile(), "-c", "512", "--no-speed", "--json", "--types", types});
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

TEST(CompareTest, FloorPairsAndSimulatedRows) {
  const nlohmann::json json = nlohmann::json::parse(
      RunWell(CompareWords("turbo3,turbo3+bare,turbo3+simulated", {"--chunks", "1"})).out);
  ASSERT_EQ(json["rows"].size(), 5u);  // the reference and the floor besides
  EXPECT_LT(json["floor"], 2e-4);
  EXPECT_EQ(json["floor_low_enough"], true);
  const auto &product = json["rows"][2], &bare = json["rows"][3], &simulated = json["rows"][4];
  EXPECT_EQ(product["simulated"], false);
  EXPECT_EQ(bare["simulated"], true);
  EXPECT_GT(bare["kld_mean"], product["kld_mean"]);
  EXPECT_LT(bare["bits_per_value"], product["bits_per_value"]);
  const auto& pair = simulated["kld_minus"]["turbo3"];
  EXPECT_GT(pair["se"], 0.0);
  EXPECT_LT(std::abs(pair["mean"].get<double>()), 2 * pair["se"].get<double>());
}

TEST(CompareTest, IdeasAreRows) {
  const nlohmann::json rows = nlohmann::json::parse(
      RunWell(CompareWords("turbo3+simulated,turbo3+qjl,f16+alpha=1.5", {"--chunks", "1"}))
          .out)["rows"];
  ASSERT_EQ(rows.size(), 5u);  // the reference and the floor besides
  const auto &plain = rows[2], &qjl = rows[3], &alpha = rows[4];
  EXPECT_EQ(qjl["name"], "turbo3 +qjl");
  EXPECT_EQ(qjl["simulated"], true);
  EXPECT_GT(qjl["bits_per_value"], plain["bits_per_value"]);
  EXPECT_GT(qjl["kld_mean"], plain["kld_mean"]);
  EXPECT_GT(alpha["kld_mean"], 1e-4);  // not taken for the reference
}

TEST(CompareTest, GoesOnWhereItsFileEnds) {
  const std::string file = (CliFolder() / "compare.jsonl").string();
  const auto run = [&](const std::string& types, const char* chunks) {
    return nlohmann::json::parse(
        RunWell(CompareWords(types, {"--chunks", chunks, "-o", file})).out)["rows"];
  };
  const auto lines = [&] {
    std::ifstream in(file);
    return std::count(std::istreambuf_iterator<char>(in), {}, '\n');
  };
  const nlohmann::json at_once =
      nlohmann::json::parse(RunWell(CompareWords("turbo3,turbo2", {"--chunks", "2"})).out)["rows"];
  run("turbo3", "1");
  EXPECT_EQ(lines(), 3);  // header, f32, turbo3
  const nlohmann::json rows = run("turbo3,turbo2", "2");
  EXPECT_EQ(lines(), 7);
  EXPECT_EQ(rows, at_once);
  EXPECT_EQ(run("turbo3,turbo2", "2"), at_once);
  EXPECT_EQ(lines(), 7);
  const CliResult other = RunCli(CompareWords("turbo3", {"-o", file, "--reference", "q8_0"}));
  EXPECT_EQ(other.status, 2);
  EXPECT_THAT(other.err, HasSubstr("holds results of reference f16, this run has q8_0"));
}

TEST(LabTest, AblationTableJsonAndPlot) {
  const std::string svg = (CliFolder() / "ablation.svg").string();
  const std::string results = (CliFolder() / "ablation.jsonl").string();
  const Words words = {
      "lab", "ablation", "-m",    TinyModelFile(), "-f", LongTextFile(), "-c", "512", "--chunks",
      "1",   "-o",       results, "--svg",         svg};
  EXPECT_THAT(RunWell(words).out,
              AllOf(HasSubstr("none"), HasSubstr("+ centring"), HasSubstr("full - window"),
                    HasSubstr("simulated"), HasSubstr("product"), HasSubstr("floor")));
  Words json_words = words;
  json_words.push_back("--json");
  const nlohmann::json rows = nlohmann::json::parse(RunWell(json_words).out)["rows"];
  double none = 0, full = 0;
  for (const auto& row : rows) {
    if (row["cures"] == "none") none = row["kld_mean"];
    if (row["kld_minus_full"] == 0.0 && row["simulated"] == false) full = row["kld_mean"];
  }
  EXPECT_GT(none, full);
  EXPECT_GT(full, 0);
  std::ifstream in(svg);
  const std::string text(std::istreambuf_iterator<char>(in), {});
  EXPECT_THAT(text, AllOf(StartsWith("<svg"), HasSubstr("full - sinks"), EndsWith("</svg>\n")));
}

TEST(PerplexityTest, PrintsWhatScriptsRead) {
  const std::string out =
      RunWell(Tiny("perplexity", {"-f", LongTextFile(), "-c", "64", "--chunks", "3"})).out;
  EXPECT_THAT(out, ContainsRegex("\\[1\\][0-9.]+,\\[2\\][0-9.]+,\\[3\\][0-9.]+,"));
  EXPECT_THAT(out, ContainsRegex("Final estimate: PPL = [0-9]+\\.[0-9]{4} \\+/- [0-9.]+\n"));
}

TEST(PerplexityTest, DivergenceFromAFileOfItsOwn) {
  const std::string base = (CliFolder() / "base.kld").string();
  RunWell(Tiny("perplexity",
               {"-f", LongTextFile(), "-c", "64", "--chunks", "5", "--kl-divergence-base", base}));
  const auto mean = [&](const char* type) {
    const std::string out = RunWell(Tiny("perplexity", {"--kl-divergence", "--kl-divergence-base",
                                                        base, "-ctk", type, "-ctv", type}))
                                .out;
    std::smatch found;
    EXPECT_TRUE(std::regex_search(out, found, std::regex("Mean +KLD: +(-?[0-9.e-]+)"))) << out;
    EXPECT_THAT(out, AllOf(HasSubstr("Same top p"), HasSubstr("RMS")));
    return found.empty() ? -1.0 : std::stod(found[1]);
  };
  EXPECT_LT(std::abs(mean("f16")), 1e-4);
  EXPECT_GT(mean("turbo2"), mean("f16"));
}

TEST(PerplexityTest, ControlCPrintsWhatIsDone) {
  const CliResult result =
      RunCli(Tiny("perplexity", {"-f", LongTextFile(), "-c", "16"}), {.interrupt_after = "[1]"});
  EXPECT_EQ(result.status, app::kExitInterrupted) << result.err;
  EXPECT_THAT(result.out, HasSubstr("Final estimate: PPL"));
  EXPECT_THAT(result.err, ContainsRegex("interrupted after [0-9]+ of [0-9]+ windows"));
}

TEST(RecommendTest, MeasuresStoresAndIsTakenByCacheAuto) {
  const CliResult before = RunCli(Tiny("run", {"-p", "The cat", "--cache", "auto"}));
  EXPECT_EQ(before.status, app::kExitBadInput);
  EXPECT_THAT(before.err, HasSubstr("turboquant recommend -m MODEL -c 2048"));

  const nlohmann::json json =
      nlohmann::json::parse(RunWell(Tiny("recommend", {"-c", "1500", "--json"})).out);
  EXPECT_EQ(json["context"], 1500);
  EXPECT_LE(json["bytes"], json["max_bytes"]);  // what the default types take
  EXPECT_LE(json["runs"], 2 * 2 + 8);
  EXPECT_GT(json["kld_mean"], 0.0);
  EXPECT_GT(json["kld_upper"], json["kld_mean"]);
  ASSERT_EQ(json["places"].size(), 4u);
  const std::string type_k = json["type_k"], type_v = json["type_v"];
  EXPECT_TRUE(fs::exists(std::string(json["stored"])));

  const std::string summary = "cache    K " + type_k + ", V " + type_v + ":";
  const CliResult run = RunWell(
      Tiny("run", {"-p", "The cat", "-n", "4", "--cache", "auto", "-c", "1500", "--temp", "0"}));
  EXPECT_THAT(run.err, AllOf(HasSubstr(summary), HasSubstr("recommended for contexts up to 1500")));
  EXPECT_THAT(RunWell(Tiny("perplexity",
                           {"-f", LongTextFile(), "-c", "64", "--chunks", "2", "--cache", "auto"}))
                  .err,
              HasSubstr(summary));
  const nlohmann::json bench = nlohmann::json::parse(
      RunWell(Tiny("bench", {"-p", "16", "-n", "0", "-r", "1", "--cache", "auto", "-o", "json"}))
          .out);
  EXPECT_EQ(bench[0]["type_k"], type_k);
  const nlohmann::json compare = nlohmann::json::parse(
      RunWell(Tiny("compare", {"-f", LongTextFile(), "-c", "64", "--chunks", "2", "--types",
                               "auto,turbo3", "--no-speed", "--json"}))
          .out);
  EXPECT_EQ(compare["rows"][2]["type_k"], "auto");  // behind the reference and the floor

  const CliResult longer = RunCli(Tiny("run", {"-p", "x", "--cache", "auto", "-c", "1501"}));
  EXPECT_EQ(longer.status, app::kExitBadInput);
  EXPECT_EQ(RunCli(Tiny("run", {"-p", "x", "--cache", "auto", "-ctk", "turbo4"})).status,
            app::kExitUsage);
  EXPECT_EQ(
      RunCli(Tiny("run", {"-p", "x", "--cache", "auto", "-c", "1500", "--cache-window", "512"}))
          .status,
      app::kExitUsage);
}

TEST(AgeTest, OlderTokensFallAndBudgetsHold) {
  const CliResult aged = RunWell(
      Tiny("run", {"-f", LongTextFile(), "-n", "4", "-c", "4000", "--temp", "0", "-ctk", "turbo4",
                   "-ctv", "turbo4", "--cache-age", "300:turbo3,600:turbo3/turbo2"}));
  EXPECT_THAT(aged.err,
              HasSubstr("cache    K turbo4, V turbo4, 384 tokens back K turbo3, V turbo3, "
                        "640 tokens back K turbo3, V turbo2: "));
  const auto bench = [](const Words& more) {
    Words words = {"-p", "0", "-n", "2", "-d", "1500", "-r", "1", "-o", "json"};
    words.insert(words.end(), more.begin(), more.end());
    return nlohmann::json::parse(RunWell(Tiny("bench", words)).out)[0];
  };
  const nlohmann::json eight = bench({"-ctk", "turbo8", "-ctv", "turbo8"});
  const nlohmann::json two =
      bench({"-ctk", "turbo8", "-ctv", "turbo8", "--cache-age", "700:turbo2"});
  EXPECT_LT(two["kv_bytes_total"], eight["kv_bytes_total"]);
  EXPECT_LT(two["kv_bits_per_value"], eight["kv_bits_per_value"]);

  const CliResult budget = RunWell(Tiny(
      "run", {"-p", "The cat", "-n", "4", "-c", "2000", "--temp", "0", "--cache-budget", "1GiB"}));
  EXPECT_THAT(budget.err,
              AllOf(HasSubstr("budget   1.0 GiB for 2000 tokens: -ctk turbo8 -ctv turbo8"),
                    HasSubstr("expected KLD"), HasSubstr("docs/quality.md")));
  EXPECT_THAT(RunWell({"inspect", TinyModelFile(), "--cache-budget", "16MiB"}).out,
              AllOf(HasSubstr("--cache-budget 16.0 MiB"), HasSubstr("128K tokens"),
                    HasSubstr("turbo8 / turbo8")));
}

TEST(RecommendTest, TableSaysWhyAndLimitsThatCannotHoldSayWhatWould) {
  const CliResult shown =
      RunWell(Tiny("recommend", {"-c", "1024", "--max-kld", "0.5", "--no-store"}));
  EXPECT_THAT(shown.out, AllOf(HasSubstr("policy   -ctk "), HasSubstr("KLD of "),
                               HasSubstr("95 % confidence"), Not(HasSubstr("stored"))));
  EXPECT_THAT(RunWell(Tiny("recommend", {"-c", "1024", "-f", LongTextFile(), "--no-store"})).out,
              HasSubstr("tokens of " + LongTextFile()));
  EXPECT_THAT(RunCli(Tiny("recommend", {"-f", "-"}), {.input = "too short"}).err,
              HasSubstr("give one of 1024 or more"));
  const CliResult small = RunCli(Tiny("recommend", {"-c", "2048", "--memory", "64KiB"}));
  EXPECT_EQ(small.status, app::kExitOutOfMemory);
  EXPECT_THAT(small.err, HasSubstr("the cheapest there is"));
  const CliResult strict = RunCli(Tiny("recommend", {"-c", "1024", "--max-kld", "1e-12"}));
  EXPECT_EQ(strict.status, app::kExitUsage);
  EXPECT_THAT(strict.err, AllOf(HasSubstr("--max-kld"), HasSubstr("Nothing was stored")));
}

TEST(VectorsTest, DumpedAndPassedThroughCodecs) {
  const std::string folder = (CliFolder() / "dump").string();
  const CliResult dumped =
      RunWell(Tiny("dump-kv", {"-o", folder, "-c", "300", "--layers", "1", "-f", LongTextFile()}));
  EXPECT_THAT(dumped.out, AllOf(HasSubstr("layer-01-q.npy"), HasSubstr("[300, ")));
  EXPECT_FALSE(fs::exists(folder + "/layer-00-k.npy"));
  const std::string keys = folder + "/layer-01-k.npy", back = folder + "/back.npy";
  const auto shape = RunWell({"codec", "-i", keys}).out;  // every type, one line each
  for (const CodecInfo& info : kCodecs) EXPECT_THAT(shape, HasSubstr(std::string(info.name)));

  const auto passed = [&](const Words& words) {
    Words all = {"codec", "-i", keys, "--json"};
    all.insert(all.end(), words.begin(), words.end());
    return nlohmann::json::parse(RunWell(all).out);
  };
  const nlohmann::json rows = passed({"-t", "turbo4,turbo3", "--side", "k"});
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_GT(rows[0]["db"], rows[1]["db"]);
  EXPECT_GT(rows[0]["bits_per_value"], rows[1]["bits_per_value"]);
  EXPECT_TRUE(passed({"-t", "f32", "-o", back})[0]["db"].is_null());  // exact, in its place
  const lab::NpyArray dumped_keys = lab::ReadNpy(keys);
  EXPECT_EQ(lab::ReadNpy(back).values, dumped_keys.values);

  // What a token's key is depends on no token behind it, nor on how the text is cut into passes.
  const std::string longer = folder + "-longer", halves = folder + "-halves";
  RunWell(Tiny("dump-kv", {"-o", longer, "-c", "700", "--layers", "0-1", "-f", LongTextFile()}));
  RunWell(
      Tiny("dump-kv", {"-o", halves, "-c", "300", "--layers", "1", "-f", LongTextFile(), "--f16"}));
  const lab::NpyArray more = lab::ReadNpy(longer + "/layer-01-k.npy"),
                      half = lab::ReadNpy(halves + "/layer-01-k.npy");
  ASSERT_EQ(more.shape[0], 700);
  EXPECT_EQ(half.type, lab::NpyType::kF16);
  EXPECT_EQ(half.shape, dumped_keys.shape);
  for (size_t i = 0; i < dumped_keys.values.size(); ++i) {
    const float key = dumped_keys.values[i];
    ASSERT_NEAR(more.values[i], key, 1e-4 * (1 + std::abs(key))) << i;
    ASSERT_NEAR(half.values[i], key, 1e-3 * (1 + std::abs(key))) << i;
  }
  for (const char* other : {"/layer-01-v.npy", "/layer-00-k.npy"})
    EXPECT_NE(lab::ReadNpy(longer + other).values, more.values) << other;

  EXPECT_THAT(RunCli({"codec", "-i", keys, "-o", back}).err, HasSubstr("name it with -t"));
  EXPECT_THAT(RunCli({"codec", "-i", LongTextFile()}).err, HasSubstr("no .npy file"));
  const std::string odd = folder + "/odd.npy";
  lab::NpyWriter writer(odd, lab::NpyType::kF32, {2, 100});
  writer.Write(std::vector<float>(200, 1.0f));
  writer.Finish();
  const CliResult none = RunCli({"codec", "-i", odd, "-t", "turbo3,turbo4"});
  EXPECT_EQ(none.status, app::kExitBadInput);
  EXPECT_THAT(none.err, AllOf(HasSubstr("100 dims"), HasSubstr("cache type turbo4 has no")));
  EXPECT_THAT(RunWell({"codec", "-i", odd}).err, HasSubstr("left out: cache type turbo3 has no"));
  EXPECT_EQ(RunCli({"codec", "-i", folder + "/none.npy"}).status, app::kExitBadInput);
  for (const char* layers : {"2", "1-0", "x", "0-"}) {
    EXPECT_THAT(RunCli(Tiny("dump-kv", {"-o", folder, "--layers", layers})).err,
                HasSubstr("--layers"))
        << layers;
  }
}

TEST(CacheWatchTest, FiguresAtTheEnd) {
  const std::string prompt = std::string(900, 'a');
  EXPECT_THAT(RunWell(Tiny("run", {"-p", prompt, "-n", "2", "--cache-watch"})).err,
              ContainsRegex("watch    [0-9]+ queries of 2 heads: output off by [0-9.]+ %"));
  EXPECT_THAT(RunWell(Tiny("run", {"-p", "a", "-n", "2", "--cache-watch"})).err,
              HasSubstr("no compressed page was read yet"));
  EXPECT_THAT(RunWell(Tiny("chat", {"--cache-watch", "--chat-template", "chatml", "-n", "2"}),
                      {.input = "hello\n/stats\n/exit\n"})
                  .err,
              HasSubstr("watch    "));
}

TEST(BenchTest, Formats) {
  const auto bench = [&](const char* format) {
    return RunWell(Tiny("bench", {"-p", "16", "-n", "4", "-d", "0,32", "-r", "2", "-ctk",
                                  "turbo3,f16", "-ctv", "turbo3", "-o", format}))
        .out;
  };
  const std::string table = bench("md");
  EXPECT_THAT(table, AllOf(HasSubstr(" pp16 |"), HasSubstr(" pp16 @ d32 |"), HasSubstr(" tg4 |"),
                           HasSubstr("±"), HasSubstr("\nbuild: ")));
  const nlohmann::json json = nlohmann::json::parse(bench("json"));
  ASSERT_EQ(json.size(), 8u);
  for (const auto& row : json) {
    EXPECT_EQ(row["samples_ts"].size(), 2u);
    EXPECT_GT(row["avg_ts"], 0.0);
    EXPECT_GT(row["kv_bytes_per_token"], 0.0);
  }
  EXPECT_EQ(json[1]["n_gen"], 4);
  EXPECT_EQ(json[4]["type_k"], "f16");
  const std::vector<std::string> lines = Lines(bench("jsonl"));
  ASSERT_EQ(lines.size(), 8u);
  for (const std::string& line : lines) EXPECT_EQ(nlohmann::json::parse(line)["type_v"], "turbo3");
  const std::vector<std::string> csv = Lines(bench("csv"));
  ASSERT_EQ(csv.size(), 9u);
  const std::vector<std::string> header = CsvFields(csv[0]);
  for (size_t i = 1; i < csv.size(); ++i) EXPECT_EQ(CsvFields(csv[i]).size(), header.size());
  EXPECT_THAT(header, testing::Contains("avg_ts"));
}

TEST(BenchTest, ControlC) {
  const CliResult result = RunCli(Tiny("bench", {"-p", "0", "-n", "100000", "-r", "5", "-o", "md"}),
                                  {.interrupt_after = "| model"});
  EXPECT_EQ(result.status, app::kExitInterrupted) << result.err;
  EXPECT_THAT(result.err, HasSubstr("error: interrupted"));
}

TEST(InspectTest, FileAndCostOfEachCacheType) {
  const std::string out = RunWell({"inspect", TinyModelFile(), "--metadata", "--tensors"}).out;
  EXPECT_THAT(out, AllOf(HasSubstr("architecture"), HasSubstr("general.architecture = "),
                         HasSubstr("token_embd.weight"), HasSubstr("128K tokens")));
  for (const char* type : {"turbo8", "turbo4", "turbo3", "turbo2", "f16", "q8_0"}) {
    EXPECT_THAT(out, ContainsRegex("\n" + std::string(type) + " "));
  }
}

// In a cache folder of its own: made at the first load, read at the second, not at all if unwanted.
TEST(CalibrationTest, MadeOnceReusedOrLeftAway) {
  const fs::path folder = CliFolder() / "calibration_cache";
  const CliOptions own = {.environment = {"XDG_CACHE_HOME=" + folder.string()}};
  const Words run = Tiny("run", {"-p", "The cat", "-n", "2", "--temp", "0"});
  const auto with = [&](const Words& more) {
    Words words = run;
    words.insert(words.end(), more.begin(), more.end());
    return RunWell(words, own).err;
  };
  EXPECT_THAT(RunWell({"inspect", TinyModelFile()}, own).out, HasSubstr("not calibrated yet"));
  EXPECT_THAT(with({"--no-calibration"}), Not(HasSubstr("calibrat")));
  EXPECT_THAT(with({"-ctk", "f16"}), Not(HasSubstr("calibrat")));
  EXPECT_FALSE(fs::exists(folder));
  EXPECT_THAT(with({}), AllOf(HasSubstr("calibrated in "), HasSubstr("keys calibrated (")));
  EXPECT_THAT(with({}), AllOf(Not(HasSubstr("calibrated in ")), HasSubstr("keys calibrated (")));
  EXPECT_THAT(RunWell({"inspect", TinyModelFile()}, own).out,
              AllOf(HasSubstr("Calibration of keys"), ContainsRegex("\nall ")));

  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) fs::resize_file(entry.path(), entry.file_size() - 1);
  }
  EXPECT_THAT(with({}), AllOf(HasSubstr("truncated"), HasSubstr("made anew"),
                              HasSubstr("keys calibrated (")));
}

TEST(CalibrationTest, ByHandFromATextAndByName) {
  const std::string file = (CliFolder() / "own.tqcal").string();
  EXPECT_THAT(
      RunWell(Tiny("calibrate", {"-f", LongTextFile(), "-o", file})).out,
      AllOf(HasSubstr("3 bits, dB"), HasSubstr("written to " + file), HasSubstr("--calibration")));
  const Words words = {"-p", "The cat", "-n", "2", "--temp", "0", "--calibration", file};
  EXPECT_THAT(RunWell(Tiny("run", words)).err, HasSubstr("keys calibrated ("));
  // A session is bound to it.
  const std::string session = (CliFolder() / "calibrated.tq").string();
  Words saving = words;
  saving.insert(saving.end(), {"--session", session});
  RunWell(Tiny("run", saving));
  const CliResult refused =
      RunCli(Tiny("run", {"-n", "2", "--no-calibration", "--session", session}));
  EXPECT_EQ(refused.status, app::kExitUsage);
  EXPECT_THAT(refused.err, HasSubstr("keys were saved with calibration"));
  EXPECT_EQ(RunCli(Tiny("run", {"-p", "a", "--calibration", "/nowhere/x"})).status,
            app::kExitBadInput);
}

TEST(TokenizeTest, ListPiecesAndCount) {
  const std::string ids = RunWell(Tiny("tokenize", {"-p", "The cat", "--ids"})).out;
  EXPECT_TRUE(nlohmann::json::parse(ids).is_array()) << ids;
  EXPECT_EQ(RunWell(Tiny("tokenize", {"--stdin", "--ids"}), {.input = "The cat"}).out, ids);
  const std::string pieces = RunWell(Tiny("tokenize", {"-p", "The cat", "--show-count"})).out;
  EXPECT_THAT(pieces, HasSubstr(" -> '"));
  EXPECT_THAT(pieces, HasSubstr("Total number of tokens: " +
                                std::to_string(nlohmann::json::parse(ids).size())));
}

TEST(FetchTest, ListsModelsWithTheirLicences) {
  EXPECT_THAT(RunWell({"fetch", "--list"}).out,
              AllOf(HasSubstr("smollm2"), HasSubstr("gemma3-270m"), HasSubstr("Gemma Terms"),
                    HasSubstr("qwen2.5-coder-1.5b"), HasSubstr("Apache-2.0")));
}

}  // namespace
}  // namespace tq::test
