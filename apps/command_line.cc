// SPDX-License-Identifier: Apache-2.0
#include "apps/command_line.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <utility>

#include "apps/exit_codes.h"
#include "turboquant/base/error.h"

namespace tq::app {

Option Option::Required(bool required) const { return Option(option_->required(required)); }
Option Option::FromVariable(const std::string& name) const {
  return Option(option_->envname(name));
}
Option Option::ShowDefault() const { return Option(option_->capture_default_str()); }
Option Option::SplitAt(char delimiter) const { return Option(option_->delimiter(delimiter)); }
Option Option::Excludes(const std::string& flag) const { return Option(option_->excludes(flag)); }

Option Option::Positive() const { return Option(option_->check(CLI::PositiveNumber)); }
Option Option::NonNegative() const { return Option(option_->check(CLI::NonNegativeNumber)); }
Option Option::Between(int least, int most) const {
  return Option(option_->check(CLI::Range(least, most)));
}
Option Option::OneOf(std::vector<std::string> members) const {
  return Option(option_->check(CLI::IsMember(std::move(members))));
}
Option Option::SizeWithUnit() const { return Option(option_->transform(CLI::AsSizeValue(false))); }

bool Option::IsGiven() const { return option_->count() > 0; }

Command Command::AddCommand(const std::string& name, const std::string& summary) const {
  return Command(app_->add_subcommand(name, summary));
}
void Command::RequireCommand() const { app_->require_subcommand(1); }

template <typename T>
Option Command::AddOption(const std::string& names, T& value, const std::string& help) const {
  return Option(app_->add_option(names, value, help));
}
template Option Command::AddOption(const std::string&, int&, const std::string&) const;
template Option Command::AddOption(const std::string&, int64_t&, const std::string&) const;
template Option Command::AddOption(const std::string&, uint64_t&, const std::string&) const;
template Option Command::AddOption(const std::string&, float&, const std::string&) const;
template Option Command::AddOption(const std::string&, double&, const std::string&) const;
template Option Command::AddOption(const std::string&, std::string&, const std::string&) const;
template Option Command::AddOption(const std::string&, std::vector<int>&, const std::string&) const;
template Option Command::AddOption(const std::string&, std::vector<std::string>&,
                                   const std::string&) const;

Option Command::AddFlag(const std::string& names, bool& value, const std::string& help) const {
  return Option(app_->add_flag(names, value, help));
}
Option Command::AddIgnoredOption(const std::string& names, const std::string& help) const {
  return Option(app_->add_option_function<std::string>(
      names, [](const std::string&) {}, help));
}

Option Command::GetOption(const std::string& name) const { return Option(app_->get_option(name)); }
void Command::RemoveOption(const std::string& name) const {
  app_->remove_option(app_->get_option(name));
}

void Command::OnRun(std::function<void()> run) const { app_->callback(std::move(run)); }

CommandLine::CommandLine(const std::string& name, const std::string& summary,
                         const std::string& version, const std::string& footer)
    : app_(std::make_unique<CLI::App>(summary, name)) {
  app_->require_subcommand(1);
  app_->option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app_->set_version_flag("--version", version);
  app_->footer(footer);
  app_->get_formatter()->column_width(34);
}
CommandLine::~CommandLine() = default;

int CommandLine::Run(std::vector<std::string> words) {
  if (!words.empty() && !words[0].starts_with('-') &&
      app_->get_subcommands([&](const CLI::App* app) { return app->get_name() == words[0]; })
          .empty()) {
    Throw(ErrorCode::kInvalidArgument, "there is no command '{}'; --help lists what there is",
          words[0]);
  }
  std::reverse(words.begin(), words.end());  // the parser takes them from the end
  try {
    app_->parse(std::move(words));
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app_->exit(error);  // --help, --version
    fmt::print(stderr, "error: {}\nrun with --help for the flags there are\n", error.what());
    return kExitUsage;
  }
  return kExitOk;
}

}  // namespace tq::app
