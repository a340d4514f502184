// SPDX-License-Identifier: Apache-2.0
// turboquant: one binary, one subcommand per file.
#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>
#include <span>

#include "apps/argv.h"
#include "apps/command_line.h"
#include "apps/commands.h"
#include "apps/exit_codes.h"
#include "apps/interrupt.h"
#include "turboquant/base/cpu_isa.h"
#include "turboquant/base/error.h"
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
  CommandLine line("turboquant",
                   "Runs language models (GGUF) from a KV cache compressed to 2-4 bits per value.",
                   Version(), std::string(kExitCodesHelp));
  const Command root = line.root();
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
  AddCodecCommand(root);
  AddDumpKvCommand(root);
  AddFetchCommand(root);
  AddDoctorCommand(root);

  return line.Run(ExpandShortFlags(argv));
}

// Results may wait in the stream until now; a full disk must not look like success.
void RequireWritten() {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return;
  tq::Throw(tq::ErrorCode::kIo,
            "cannot write to standard output ({}): what was printed is not complete",
            std::strerror(errno));
}

}  // namespace

int main(int argc, char** argv) {
  tq::app::InstallInterruptHandler();
  try {
    const int code = Run({argv, static_cast<size_t>(argc)});
    RequireWritten();
    return code;
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
