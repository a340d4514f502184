// SPDX-License-Identifier: Apache-2.0
// A child process without a shell: argument list, optional extra environment, output to a pipe or a
// file.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace tq::app {

struct SubprocessOptions {
  std::vector<std::string> arguments;    // [0] is looked up in PATH
  std::vector<std::string> environment;  // "NAME=value", added to ours
  std::filesystem::path stderr_file;     // required: what the child complains about
  bool stdout_to_pipe = false;           // otherwise to stderr_file too
};

// Runs to the end and returns the exit status (128 + signal if killed; 127 if the program is not
// there). `on_output` gets the bytes of stdout (stdout_to_pipe); `on_idle` is called about ten
// times a second otherwise. If either throws, the child is ended and the exception goes on.
int RunSubprocess(const SubprocessOptions& options,
                  const std::function<void(std::span<const std::byte>)>& on_output,
                  const std::function<void()>& on_idle = {});

}  // namespace tq::app
