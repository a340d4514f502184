// SPDX-License-Identifier: Apache-2.0
#include "turboquant/text/chat_template.h"

#include <algorithm>

#include "turboquant/base/error.h"
#include "turboquant/text/chat_families.h"

namespace tq {
namespace {

std::string FamilyNames() {
  std::string names;
  for (const ChatFamily& family : kChatFamilies) {
    names += names.empty() ? "" : ", ";
    names += family.name;
  }
  return names;
}

bool Fits(const ChatFamily& family, std::string_view text) {
  const auto has = [&](std::string_view mark) { return text.find(mark) != std::string_view::npos; };
  const auto given = [](std::string_view mark) { return !mark.empty(); };
  return std::ranges::all_of(family.marks, has) &&
         std::ranges::none_of(family.foreign,
                              [&](std::string_view mark) { return given(mark) && has(mark); });
}

// The tags a template writes, <|like_this|>, to say what an unknown one looks like.
std::string TagsIn(std::string_view text) {
  constexpr size_t kMostTags = 6, kLongestTag = 40;
  constexpr std::string_view kInTag =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_|/:-";
  std::vector<std::string_view> tags;
  for (size_t i = text.find('<'); i < text.size() && tags.size() < kMostTags;
       i = text.find('<', i + 1)) {
    const size_t end = text.find_first_not_of(kInTag, i + 1);
    if (end >= text.size() || text[end] != '>' || end == i + 1 || end - i > kLongestTag) continue;
    const std::string_view tag = text.substr(i, end + 1 - i);
    if (std::ranges::find(tags, tag) == tags.end()) tags.push_back(tag);
  }
  return tags.empty() ? "no tags like <|user|>" : fmt::format("the tags {}", fmt::join(tags, ", "));
}

// What a ChatML template says itself if no system message is given: the first system turn that is
// written as a literal. Fine-tuned models often change only this text.
std::optional<std::string> LiteralSystemTurn(std::string_view text) {
  constexpr std::string_view kOpen = "<|im_start|>system", kClose = "<|im_end|>";
  for (size_t at = text.find(kOpen); at < text.size(); at = text.find(kOpen, at + 1)) {
    std::string_view rest = text.substr(at + kOpen.size());
    if (rest.starts_with("\\n"))
      rest.remove_prefix(2);
    else if (rest.starts_with("\n"))
      rest.remove_prefix(1);
    else
      continue;
    const std::string_view literal = rest.substr(0, rest.find(kClose));
    if (literal.empty() || literal.find_first_of("'\"{}") != std::string_view::npos) continue;
    std::string content;
    for (size_t i = 0; i < literal.size(); ++i) {
      const bool newline = literal.substr(i).starts_with("\\n");
      content += newline ? '\n' : literal[i];
      i += newline ? 1 : 0;
    }
    return content;
  }
  return std::nullopt;
}

std::string_view Trimmed(std::string_view text, std::string_view blanks = " \t\n\v\f\r") {
  const size_t begin = text.find_first_not_of(blanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(blanks) + 1 - begin);
}

// The reply without its thoughts, or with them in the one form that the template writes them in.
std::string WithThoughts(std::string_view content, bool keep) {
  constexpr std::string_view kOpen = "<think>", kClose = "</think>";
  std::string_view thoughts, said = content;
  if (const size_t close = content.find(kClose); close != std::string_view::npos) {
    said = content.substr(content.rfind(kClose) + kClose.size());
    said.remove_prefix(std::min(said.find_first_not_of('\n'), said.size()));
    thoughts = content.substr(0, close);
    if (const size_t open = thoughts.rfind(kOpen); open != std::string_view::npos)
      thoughts.remove_prefix(open + kOpen.size());
  }
  if (!keep) return std::string(said);
  said.remove_prefix(std::min(said.find_first_not_of('\n'), said.size()));
  return fmt::format("<think>\n{}\n</think>\n\n{}", Trimmed(thoughts, "\n"), said);
}

}  // namespace

ChatTemplate ChatTemplate::FromGguf(const GgufFile& file) {
  constexpr std::string_view kKey = "tokenizer.chat_template";
  if (!file.Has(kKey)) {
    Throw(ErrorCode::kNotFound, "the model file has no {} (a base model?); formats there are: {}",
          kKey, FamilyNames());
  }
  const std::string text = file.GetString(kKey);
  const auto family =
      std::ranges::find_if(kChatFamilies, [&](const ChatFamily& f) { return Fits(f, text); });
  if (family == kChatFamilies.end()) {
    Throw(ErrorCode::kUnsupported,
          "the file's {} is of an unknown format: {} characters with {}; formats there are: {}",
          kKey, text.size(), TagsIn(text), FamilyNames());
  }
  ChatTemplate chat = FromName(family->name);
  if (const auto system = LiteralSystemTurn(text)) chat.default_system_ = system;
  return chat;
}

ChatTemplate ChatTemplate::FromName(std::string_view name) {
  const auto family = std::ranges::find(kChatFamilies, name, &ChatFamily::name);
  if (family == kChatFamilies.end()) {
    Throw(ErrorCode::kInvalidArgument, "unknown chat template \"{}\"; there are: {}", name,
          FamilyNames());
  }
  ChatTemplate chat;
  chat.family_ = static_cast<int>(family - kChatFamilies.begin());
  if (family->default_system) chat.default_system_ = std::string(*family->default_system);
  return chat;
}

std::string_view ChatTemplate::name() const {
  return kChatFamilies[static_cast<size_t>(family_)].name;
}

std::vector<std::string> ChatTemplate::stop_strings() const {
  return {std::string(kChatFamilies[static_cast<size_t>(family_)].stop)};
}

std::string ChatTemplate::Render(std::span<const ChatMessage> messages,
                                 bool add_generation_prompt) const {
  const ChatFamily& family = kChatFamilies[static_cast<size_t>(family_)];
  std::string text;
  const auto put = [&](const Brackets& around, std::string_view content) {
    text += around.open;
    text += content;
    text += around.close;
  };
  const auto content_of = [&](const ChatMessage& message) {
    return family.trim == Trim::kNothing ? std::string_view(message.content)
                                         : Trimmed(message.content);
  };
  size_t last_question = 0;
  for (size_t i = 0; i < messages.size(); ++i)
    if (messages[i].role == "user") last_question = i;

  if (default_system_ && !messages.empty() && messages[0].role != "system")
    put(family.system, std::string(family.preamble) + *default_system_);
  std::string prefix;  // of the first user's text
  for (size_t i = 0; i < messages.size(); ++i) {
    const ChatMessage& message = messages[i];
    if (message.role == "system" && family.place == SystemPlace::kFirstUser) {
      if (i != 0 || messages.size() < 2 || messages[1].role != "user") {
        Throw(ErrorCode::kInvalidArgument,
              "message {} is a system message: the chat template {} has them only before the first "
              "user message",
              i + 1, family.name);
      }
      prefix = std::string(family.system.open) + message.content + std::string(family.system.close);
    } else if (message.role == "system") {
      const std::string_view preamble = i == 0 ? family.preamble : std::string_view();
      put(family.system, std::string(preamble) + std::string(content_of(message)));
    } else if (message.role == "user") {
      if (!text.empty()) text += family.bos;
      if (family.trim == Trim::kWithSystem)
        put(family.user, Trimmed(prefix + message.content));
      else
        put(family.user, prefix + std::string(content_of(message)));
      prefix.clear();
    } else if (message.role == "assistant") {
      if (family.drops_old_thoughts)
        put(family.assistant, WithThoughts(message.content, i > last_question));
      else
        put(family.assistant, content_of(message));
    } else {
      Throw(ErrorCode::kInvalidArgument,
            "message {} has the role \"{}\": the roles are system, user and assistant", i + 1,
            message.role);
    }
  }
  if (add_generation_prompt) text += family.reply;
  return text;
}

}  // namespace tq
