// SPDX-License-Identifier: Apache-2.0
// What the process returns; the same list stands in --help and docs/cli.md.
#pragma once

#include <string_view>

#include "turboquant/base/error.h"

namespace tq::app {

enum ExitCode : int {
  kExitOk = 0,
  kExitRuntime = 1,       // the system refused something (disk full, network, a process)
  kExitUsage = 2,         // flags or values that cannot be meant
  kExitBadInput = 3,      // a model, text or session file that is missing, damaged or not supported
  kExitOutOfMemory = 4,   // does not fit the machine or the budget given
  kExitInterrupted = 130  // Ctrl-C; what was done until then was printed
};

inline constexpr std::string_view kExitCodesHelp =
    "Exit codes: 0 done; 1 the system refused (disk, network, process); 2 wrong usage; 3 a file is "
    "missing,\n"
    "damaged or not supported; 4 out of memory; 130 interrupted.";

constexpr ExitCode ExitCodeOf(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return kExitUsage;
    case ErrorCode::kNotFound:
    case ErrorCode::kCorruptFile:
    case ErrorCode::kUnsupported:
      return kExitBadInput;
    case ErrorCode::kOutOfMemory:
      return kExitOutOfMemory;
    case ErrorCode::kIo:
      return kExitRuntime;
    case ErrorCode::kCancelled:
      return kExitInterrupted;
  }
  return kExitRuntime;
}

}  // namespace tq::app
