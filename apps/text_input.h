// SPDX-License-Identifier: Apache-2.0
// Where a command's text comes from: -p TEXT (with \n and the like) or -f FILE; checked to be
// UTF-8.
#pragma once

#include <optional>
#include <string>

#include "apps/command_line.h"

namespace tq::app {

struct TextFlags {
  std::string prompt, file;
  bool no_escape = false;
  std::optional<Option> prompt_option;  // tells an empty prompt from none
};
void AddTextFlags(Command command, TextFlags& flags);

bool HasText(const TextFlags& flags);
// Throws kInvalidArgument if both are given or the text is no UTF-8; empty if none is.
std::string ReadText(const TextFlags& flags);

// The text to measure on: of `file` (-: standard input), or the one built in if it is empty. Throws
// kInvalidArgument if it is no UTF-8.
std::string ReadTextOrBuiltin(const std::string& file);

// \n \r \t \\ \' \" and \xNN; others stay as they are.
std::string ProcessEscapes(const std::string& text);

}  // namespace tq::app
