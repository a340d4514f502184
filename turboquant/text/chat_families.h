// SPDX-License-Identifier: Apache-2.0
// The closed list of chat formats: what is written around the messages, and by which words a
// template of the family is known. Order matters: the first family that fits a template has it.
#pragma once

#include <array>
#include <optional>
#include <string_view>

namespace tq {

struct Brackets {
  std::string_view open, close;
};

enum class SystemPlace { kOwnTurn, kFirstUser };  // a turn of its own, or before the user's text
enum class Trim { kNothing, kContent, kWithSystem };  // blanks around a text, also around both

struct ChatFamily {
  std::string_view name;
  std::array<std::string_view, 3> marks;    // a template of this family has all of them ...
  std::array<std::string_view, 6> foreign;  // ... and none of these, which this table cannot do
  Brackets system, user, assistant;
  std::string_view reply;  // opens the assistant's turn that is to be generated
  std::string_view stop;   // ends it, should the model write it as plain text
  std::optional<std::string_view> default_system;  // said if the first message is not a system's
  std::string_view preamble = "";                  // opens the first system turn
  std::string_view bos = "";  // opens every user's turn; the first one is left to the tokenizer
  SystemPlace place = SystemPlace::kOwnTurn;
  Trim trim = Trim::kNothing;
  bool drops_old_thoughts = false;  // <think>...</think> of replies before the last question
};

inline constexpr Brackets kImSystem{"<|im_start|>system\n", "<|im_end|>\n"};
inline constexpr Brackets kImUser{"<|im_start|>user\n", "<|im_end|>\n"};
inline constexpr Brackets kImAssistant{"<|im_start|>assistant\n", "<|im_end|>\n"};
inline constexpr Brackets kHeaderSystem{"<|start_header_id|>system<|end_header_id|>\n\n",
                                        "<|eot_id|>"};
inline constexpr Brackets kHeaderUser{"<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"};
inline constexpr Brackets kHeaderAssistant{"<|start_header_id|>assistant<|end_header_id|>\n\n",
                                           "<|eot_id|>"};
// What opens a generated reply within a thought, and other separators and parts.
inline constexpr std::array<std::string_view, 6> kForeignToIm{
    "assistant\\n<think>", "assistant\n<think>", "<|im_sep|>",
    "strftime_now",        "enable_thinking",    "default_system"};

inline constexpr auto kChatFamilies = std::to_array<ChatFamily>({
    {.name = "smollm2",
     .marks = {"<|im_start|>", "<|im_end|>", "named SmolLM, trained by"},
     .foreign = kForeignToIm,
     .system = kImSystem,
     .user = kImUser,
     .assistant = kImAssistant,
     .reply = kImAssistant.open,
     .stop = "<|im_end|>",
     .default_system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"},
    {.name = "qwen2",
     .marks = {"<|im_start|>", "<|im_end|>", "You are Qwen, created by Alibaba Cloud"},
     .foreign = kForeignToIm,
     .system = kImSystem,
     .user = kImUser,
     .assistant = kImAssistant,
     .reply = kImAssistant.open,
     .stop = "<|im_end|>",
     .default_system = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."},
    {.name = "qwen3",
     .marks = {"<|im_start|>", "enable_thinking is false", "last_query_index"},
     .foreign = {"assistant\\n<think>", "assistant\n<think>"},
     .system = kImSystem,
     .user = kImUser,
     .assistant = kImAssistant,
     .reply = kImAssistant.open,
     .stop = "<|im_end|>",
     .default_system = {},
     .drops_old_thoughts = true},
    {.name = "chatml",
     .marks = {"<|im_start|>", "<|im_end|>"},
     .foreign = kForeignToIm,
     .system = kImSystem,
     .user = kImUser,
     .assistant = kImAssistant,
     .reply = kImAssistant.open,
     .stop = "<|im_end|>",
     .default_system = {}},
    {.name = "gemma",
     .marks = {"<start_of_turn>", "<end_of_turn>", "model"},
     .foreign = {},
     .system = {"", "\n\n"},
     .user = {"<start_of_turn>user\n", "<end_of_turn>\n"},
     .assistant = {"<start_of_turn>model\n", "<end_of_turn>\n"},
     .reply = "<start_of_turn>model\n",
     .stop = "<end_of_turn>",
     .default_system = {},
     .place = SystemPlace::kFirstUser,
     .trim = Trim::kContent},
    // The templates write the day's date if they are given a clock, else this one; so do we, that
    // the same messages are the same prompt tomorrow.
    {.name = "llama3.1",
     .marks = {"<|start_header_id|>", "<|eot_id|>", "Cutting Knowledge Date"},
     .foreign = {},
     .system = kHeaderSystem,
     .user = kHeaderUser,
     .assistant = kHeaderAssistant,
     .reply = kHeaderAssistant.open,
     .stop = "<|eot_id|>",
     .default_system = "",
     .preamble = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n",
     .trim = Trim::kContent},
    {.name = "llama3",
     .marks = {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"},
     .foreign = {},
     .system = kHeaderSystem,
     .user = kHeaderUser,
     .assistant = kHeaderAssistant,
     .reply = kHeaderAssistant.open,
     .stop = "<|eot_id|>",
     .default_system = {},
     .trim = Trim::kContent},
    {.name = "llama2",
     .marks = {"[INST] ", " [/INST]", "<<SYS>>"},
     .foreign = {},
     .system = {"<<SYS>>\n", "\n<</SYS>>\n\n"},
     .user = {"[INST] ", " [/INST]"},
     .assistant = {" ", " </s>"},
     .reply = "",
     .stop = "</s>",
     .default_system = {},
     .bos = "<s>",
     .place = SystemPlace::kFirstUser,
     .trim = Trim::kWithSystem},
    {.name = "mistral",
     .marks = {"' [INST] '", "' [/INST]'"},
     .foreign = {},
     .system = {"", "\n\n"},
     .user = {" [INST] ", " [/INST]"},
     .assistant = {" ", "</s>"},
     .reply = "",
     .stop = "</s>",
     .default_system = {},
     .place = SystemPlace::kFirstUser},
    {.name = "zephyr",
     .marks = {"<|user|>", "message['content'] + eos_token", "<|assistant|>"},
     .foreign = {},
     .system = {"<|system|>\n", "</s>\n"},
     .user = {"<|user|>\n", "</s>\n"},
     .assistant = {"<|assistant|>\n", "</s>\n"},
     .reply = "<|assistant|>\n",
     .stop = "</s>",
     .default_system = {}},
});

}  // namespace tq
