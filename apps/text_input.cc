// SPDX-License-Identifier: Apache-2.0
#include "apps/text_input.h"

#include <cctype>

#include "apps/utf8.h"
#include "lab/builtin_text.h"
#include "turboquant/base/error.h"

namespace tq::app {

void AddTextFlags(Command command, TextFlags& flags) {
  flags.prompt_option = command.AddOption("-p,--prompt", flags.prompt, "Text");
  command.AddOption("-f,--file", flags.file, "File with the text (-: standard input)");
  command.AddFlag("--no-escape", flags.no_escape, "Take \\n and the like in -p as they stand");
}

bool HasText(const TextFlags& flags) {
  return flags.prompt_option->IsGiven() || !flags.file.empty();
}

std::string ReadText(const TextFlags& flags) {
  const bool has_prompt = flags.prompt_option->IsGiven();
  if (has_prompt && !flags.file.empty())
    Throw(ErrorCode::kInvalidArgument, "give -p or -f, not both");
  if (!has_prompt && flags.file.empty()) return "";
  if (!has_prompt) {
    std::string text = ReadTextFile(flags.file);
    RequireUtf8(text, flags.file == "-" ? "standard input" : flags.file);
    return text;
  }
  std::string text = flags.no_escape ? flags.prompt : ProcessEscapes(flags.prompt);
  RequireUtf8(text, "the prompt");
  return text;
}

std::string ReadTextOrBuiltin(const std::string& file) {
  std::string text = file.empty() ? std::string(lab::BuiltinText()) : ReadTextFile(file);
  RequireUtf8(text, "the text");
  return text;
}

std::string ProcessEscapes(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      out += text[i];
      continue;
    }
    const char c = text[++i];
    const auto hex = [&](size_t at) {
      return at < text.size() && std::isxdigit(static_cast<unsigned char>(text[at]));
    };
    if (c == 'n') {
      out += '\n';
    } else if (c == 'r') {
      out += '\r';
    } else if (c == 't') {
      out += '\t';
    } else if (c == '\\' || c == '\'' || c == '"') {
      out += c;
    } else if (c == 'x' && hex(i + 1) && hex(i + 2)) {
      out += static_cast<char>(std::stoi(text.substr(i + 1, 2), nullptr, 16));
      i += 2;
    } else {
      out += '\\';
      out += c;
    }
  }
  return out;
}

}  // namespace tq::app
