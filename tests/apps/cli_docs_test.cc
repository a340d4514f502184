// SPDX-License-Identifier: Apache-2.0
// docs/cli.md and --help know the same flags.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include "lab/simulation/ideas.h"
#include "tests/apps/cli_process.h"

namespace tq::test {
namespace {

using Words = std::vector<std::string>;
const std::vector<Words> kCommands = {
    {"run"},        {"chat"},          {"compare"},       {"perplexity"},       {"recommend"},
    {"bench"},      {"inspect"},       {"calibrate"},     {"doctor"},           {"tokenize"},
    {"fetch"},      {"codec"},         {"dump-kv"},       {"lab", "ablation"},  {"lab", "list"},
    {"lab", "run"}, {"lab", "report"}, {"lab", "needle"}, {"lab", "trajectory"}};

std::string HelpOf(Words command) {
  command.push_back("--help");
  return RunCli(command).out;
}

std::set<std::string> FlagsIn(const std::string& text) {
  std::set<std::string> flags;
  const std::regex flag("--[a-z][a-z0-9-]*");
  for (std::sregex_iterator it(text.begin(), text.end(), flag), end; it != end; ++it) {
    flags.insert(it->str());
  }
  return flags;
}

std::string Documentation() {
  std::ostringstream text;
  text << std::ifstream(TQ_SOURCE "/docs/cli.md").rdbuf();
  return text.str();
}

TEST(CliDocsTest, EveryFlagIsDocumented) {
  const std::set<std::string> documented = FlagsIn(Documentation());
  for (const Words& command : kCommands) {
    for (const std::string& flag : FlagsIn(HelpOf(command))) {
      EXPECT_TRUE(documented.contains(flag)) << command.back() << " " << flag;
    }
  }
}

TEST(CliDocsTest, EveryDocumentedFlagExists) {
  std::set<std::string> existing = {"--version"};
  for (const Words& command : kCommands) existing.merge(FlagsIn(HelpOf(command)));
  for (const std::string& flag : FlagsIn(Documentation())) {
    EXPECT_TRUE(existing.contains(flag)) << flag;
  }
}

// As `compare --help` names them.
TEST(CliDocsTest, EveryIdeaIsDocumented) {
  const std::string documentation = Documentation(), help = HelpOf({"compare"});
  for (const lab::IdeaInfo& idea : lab::kIdeas) {
    const std::string range = idea.TakesNumber() ? "; F " + idea.Range() : "";
    EXPECT_THAT(documentation, testing::HasSubstr("| `+" + idea.Option() + "` | " +
                                                  std::string(idea.summary) + range + " |"));
    EXPECT_THAT(help, testing::HasSubstr(idea.Option()));
  }
}

TEST(CliDocsTest, EveryVariableIsDocumented) {
  const std::string documentation = Documentation();
  const std::regex variable("LLAMA_ARG_[A-Z_]+");
  for (const Words& command : kCommands) {
    const std::string help = HelpOf(command);
    for (std::sregex_iterator it(help.begin(), help.end(), variable), end; it != end; ++it) {
      EXPECT_THAT(documentation, testing::HasSubstr(it->str())) << command.back();
    }
  }
}

}  // namespace
}  // namespace tq::test
