// SPDX-License-Identifier: Apache-2.0
// Messages -> prompt text. The model families that TurboQuant runs are recognised from the file's
// own template.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "turboquant/gguf/gguf_file.h"

namespace tq {

struct ChatMessage {
  std::string role;  // "system", "user", "assistant"
  std::string content;
};

class ChatTemplate {
 public:
  // From the file's template text. Throws kNotFound if the file has none, kUnsupported if it is
  // none of the known families, saying what it looks like; both list the families.
  static ChatTemplate FromGguf(const GgufFile& file);
  // By name ("chatml", "smollm2", "qwen2", "gemma", "llama3", ...; chat_families.h). Throws
  // kInvalidArgument listing the names.
  static ChatTemplate FromName(std::string_view name);

  // add_generation_prompt: ends with the opening of the assistant's turn. The text contains special
  // tokens: encode it with parse_special. BOS is left to the tokenizer. Throws kInvalidArgument for
  // an unknown role and for a system message where the family cannot have one.
  std::string Render(std::span<const ChatMessage> messages, bool add_generation_prompt) const;
  std::string_view name() const;
  std::vector<std::string> stop_strings() const;

 private:
  int family_ = 0;
  std::optional<std::string> default_system_;  // said if the first message is not a system message
};

}  // namespace tq
