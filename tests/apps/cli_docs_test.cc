// SPDX-License-Identifier: Apache-2.0
// docs/cli.md and --help know the same flags.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include "tests/apps/cli_process.h"

namespace tq::test {
namespace {

const std::vector<std::string> kCommands = {
    "run", "chat", "compare", "perplexity", "bench", "inspect", "tokenize", "calibrate", "fetch"};

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
  for (const std::string& command : kCommands) {
    for (const std::string& flag : FlagsIn(RunCli({command, "--help"}).out)) {
      EXPECT_TRUE(documented.contains(flag)) << command << " " << flag;
    }
  }
}

TEST(CliDocsTest, EveryDocumentedFlagExists) {
  std::set<std::string> existing = {"--version"};
  for (const std::string& command : kCommands)
    existing.merge(FlagsIn(RunCli({command, "--help"}).out));
  for (const std::string& flag : FlagsIn(Documentation())) {
    EXPECT_TRUE(existing.contains(flag)) << flag;
  }
}

TEST(CliDocsTest, EveryVariableIsDocumented) {
  const std::string documentation = Documentation();
  const std::regex variable("LLAMA_ARG_[A-Z_]+");
  for (const std::string& command : kCommands) {
    const std::string help = RunCli({command, "--help"}).out;
    for (std::sregex_iterator it(help.begin(), help.end(), variable), end; it != end; ++it) {
      EXPECT_THAT(documentation, testing::HasSubstr(it->str())) << command;
    }
  }
}

}  // namespace
}  // namespace tq::test
