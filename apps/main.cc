// SPDX-License-Identifier: Apache-2.0
// turboquant: one binary, one subcommand per file.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <new>
#include <span>

#include "apps/argv.h"
#include "apps/commands.h"
#include "apps/exit_codes.h"
#include "apps/interrupt.h"
#include "turboquant/base/cpu_isa.h"
#include "turboquant/base/version.h"

namespace {

// With the instruction sets that kernels may use here; ./test reads them.
std::string Version() {
  std::string text = fmt::format("turboquant {} ({}), cpu:", tq::kVersion, tq::kBuildCommit);
  for (const tq::Isa isa : tq::AvailableIsas()) text += fmt::format(" {}", tq::IsaName(isa));
  return text;
}

int Run(std::span<char* const> argv) {
  using namespace tq::app;
  CLI::App root("Runs language models (GGUF) from a KV cache compressed to 2-4 bits per value.",
                "turboquant");
  root.require_subcommand(1);
  // Of a flag that is given twice the last one holds, as scripts that add to defaults expect.
  root.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  root.set_version_flag("--version", Version());
  root.footer(std::string(kExitCodesHelp));
  root.get_formatter()->column_width(34);
  AddRunCommand(root);
  AddChatCommand(root);
  AddCompareCommand(root);
  AddPerplexityCommand(root);
  AddRecommendCommand(root);
  AddBenchCommand(root);
  AddInspectCommand(root);
  AddLabCommand(root);
  AddTokenizeCommand(root);
  AddCalibrateCommand(root);
  AddFetchCommand(root);
  AddDoctorCommand(root);

  std::vector<std::string> words = ExpandShortFlags(argv);
  if (!words.empty() && !words[0].starts_with('-') &&
      root.get_subcommands([&](const CLI::App* app) { return app->get_name() == words[0]; })
          .empty()) {
    tq::Throw(tq::ErrorCode::kInvalidArgument,
              "there is no command '{}'; --help lists what there is", words[0]);
  }
  std::reverse(words.begin(), words.end());  // the parser takes them from the end
  try {
    root.parse(std::move(words));
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return root.exit(error);  // --help, --version
    fmt::print(stderr, "error: {}\nrun with --help for the flags there are\n", error.what());
    return kExitUsage;
  }
  return kExitOk;
}

}  // namespace

int main(int argc, char** argv) {
  tq::app::InstallInterruptHandler();
  try {
    return Run({argv, static_cast<size_t>(argc)});
  } catch (const tq::Error& error) {
    std::fflush(stdout);
    fmt::print(stderr, "error: {}\n", error.what());
    return tq::app::ExitCodeOf(error.code());
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "error: out of memory\n");
    return tq::app::kExitOutOfMemory;
  } catch (const std::exception& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return tq::app::kExitRuntime;
  }
}
