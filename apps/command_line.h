// SPDX-License-Identifier: Apache-2.0
// The parser of flags. command_line.cc alone includes CLI11, which takes seconds to compile in
// every file that does.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace tq::app {

// One option of a command; a handle, as Command is.
class Option {
 public:
  explicit Option(CLI::Option* option) : option_(option) {}

  Option Required(bool required = true) const;
  Option FromVariable(const std::string& name) const;  // of the environment, where no flag is given
  Option ShowDefault() const;                          // in --help: what the value holds now
  Option SplitAt(char delimiter) const;
  Option Excludes(const std::string& flag) const;  // which the command has

  // What values may be; others are wrong usage.
  Option Positive() const;
  Option NonNegative() const;
  Option Between(int least, int most) const;
  Option OneOf(std::vector<std::string> members) const;
  Option SizeWithUnit() const;  // 2GiB and the like become bytes

  bool IsGiven() const;

 private:
  CLI::Option* option_;
};

// A command and its subcommands, options and flags. The variables that these write live until the
// command has run.
class Command {
 public:
  explicit Command(CLI::App* app) : app_(app) {}

  Command AddCommand(const std::string& name, const std::string& summary) const;
  void RequireCommand() const;  // one of them has to be given

  // `names` as "-c,--ctx-size", or "name" for a word without a flag. T is one of the types that
  // command_line.cc lists.
  template <typename T>
  Option AddOption(const std::string& names, T& value, const std::string& help) const;
  // "--yes,!--no" for one that can be taken back.
  Option AddFlag(const std::string& names, bool& value, const std::string& help) const;
  // An option that users' scripts have and that has nothing to switch here.
  Option AddIgnoredOption(const std::string& names, const std::string& help) const;

  Option GetOption(const std::string& name) const;
  void RemoveOption(const std::string& name) const;

  // Called when this command is the one given, its options read.
  void OnRun(std::function<void()> run) const;

 private:
  CLI::App* app_;
};

// The program's command line: of an option that is given twice the last one holds, as scripts that
// add to defaults expect.
class CommandLine {
 public:
  CommandLine(const std::string& name, const std::string& summary, const std::string& version,
              const std::string& footer);
  ~CommandLine();

  Command root() const { return Command(app_.get()); }

  // Runs the command that the words name, or prints --help or --version. Wrong usage is said on
  // stderr. Returns the exit code; throws what the command throws, and kInvalidArgument if there is
  // no such command.
  int Run(std::vector<std::string> words);

 private:
  std::unique_ptr<CLI::App> app_;
};

}  // namespace tq::app
