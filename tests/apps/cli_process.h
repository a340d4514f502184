// SPDX-License-Identifier: Apache-2.0
// The built command run as a user runs it: a process with arguments, variables and input; what it
// printed and returned.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace tq::test {

struct CliOptions {
  std::vector<std::string> environment = {};        // "NAME=value"
  std::string input = {};                           // standard input
  std::optional<uint64_t> file_size_limit = {};     // bytes that a file may grow to, as a full disk
  bool output_is_full = false;                      // standard output is a disk without room
  std::optional<std::string> interrupt_after = {};  // Ctrl-C once its output holds this
  int seconds = 60;                                 // killed after that
};

struct CliResult {
  int status = -1;  // exit code; 128 + signal if killed, as it is after CliOptions::seconds
  std::string out, err;
  uint64_t peak_bytes = 0;  // of resident memory
};

// A folder of this test process, removed at its end.
const std::filesystem::path& CliFolder();

// No LLAMA_ARG_* variable is handed on, and the cache folder of models is an empty one.
CliResult RunCli(const std::vector<std::string>& arguments, const CliOptions& options = {});

}  // namespace tq::test
