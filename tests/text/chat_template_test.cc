// SPDX-License-Identifier: Apache-2.0
// Prompts of every chat format, as Jinja templates give them, and how a format is recognised.
#include "turboquant/text/chat_template.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <filesystem>

#include "turboquant/base/error.h"
#include "turboquant/gguf/gguf_writer.h"
#include "turboquant/text/chat_families.h"

namespace tq {
namespace {

using testing::AllOf;
using testing::HasSubstr;

enum class Conversation { kSystem, kPlain, kOne, kClosed };

std::vector<ChatMessage> MessagesOf(Conversation conversation) {
  std::vector<ChatMessage> all = {{"system", "Be brief."},
                                  {"user", " Hello \n"},
                                  {"assistant", "<think>\nhm\n</think>\n\n Hi there "},
                                  {"user", "Bye"}};
  if (conversation == Conversation::kPlain) all.erase(all.begin());
  if (conversation == Conversation::kOne) all = {{"user", "Hello"}};
  if (conversation == Conversation::kClosed) all.pop_back();
  return all;
}

struct Rendered {
  const char* family;
  Conversation conversation;
  const char* text;
};

// Rendered with Jinja, without the first BOS; kClosed has no generation prompt, all others have.
// smollm2 and qwen2 from the templates in the model files (RealModelFiles checks that these are
// recognised). qwen3, gemma, llama3, llama3.1, mistral: from published templates, the parts for
// tools and images left out. chatml, llama2, zephyr: from templates written after the published
// ones, not compared with a model file.
constexpr Rendered kRendered[] = {
    {"chatml", Conversation::kSystem,
     "<|im_start|>system\n"
     "Be brief.<|im_end|>\n"
     "<|im_start|>user\n"
     " Hello \n"
     "<|im_end|>\n"
     "<|im_start|>assistant\n"
     "<think>\n"
     "hm\n"
     "</think>\n"
     "\n"
     " Hi there <|im_end|>\n"
     "<|im_start|>user\n"
     "Bye<|im_end|>\n"
     "<|im_start|>assistant\n"},
    {"chatml", Conversation::kPlain,
     "<|im_start|>user\n"
     " Hello \n"
     "<|im_end|>\n"
     "<|im_start|>assistant\n"
     "<think>\n"
     "hm\n"
     "</think>\n"
     "\n"
     " Hi there <|im_end|>\n"
     "<|im_start|>user\n"
     "Bye<|im_end|>\n"
     "<|im_start|>assistant\n"},
    {"chatml", Conversation::kClosed,
     "<|im_start|>system\n"
     "Be brief.<|im_end|>\n"
     "<|im_start|>user\n"
     " Hello \n"
     "<|im_end|>\n"
     "<|im_start|>assistant\n"
     "<think>\n"
     "hm\n"
     "</think>\n"
     "\n"
     " Hi there <|im_end|>\n"},
    {"smollm2", Conversation::kSystem,
     "<|im_start|>system\n"
     "Be brief.<|im_end|>\n"
     "<|im_start|>user\n"
     " Hello \n"
     "<|im_end|>\n"
     "<|im_start|>assistant\n"
     "<think>\n"
     "hm\n"
     "</think>\n"
     "\n"
     " Hi there <|im_end|>\n"
     "<|im_start|>user\n"
     "Bye<|im_end|>\n"
     "<|im_start|>assistant\n"},
    {"smollm2", Conversation::kPlain,
     "<|im_start|>system\n"
     "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
     "<|im_start|>user\n"
     " Hello \n"
     "<|im_end|>\n"
     "<|im_start|>assistant\n"
     "<think>\n"
     "hm\n"
     "</think>\n"
     "\n"
     " Hi there <|im_end|>\n"
     "<|im_start|>user\n"
     "Bye<|im_end|>\n"
     "<|im_start|>assistant\n"},
    {"smollm2", Conversation::kOne,
     "<|im_start|>system\n"
     "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
     "<|im_start|>user\n"
     "Hello<|im_end|>\n"
     "<|im_start|>assistant\n"},
    {"smollm2", Conversation::kClosed,
     "<|im_start|>system\n"
     "Be brief.<|im_end|>\n"
     "<|im_start|>user\n"
     " Hello \n"
     "<|im_end|>\n"
     "<|im_start|>assistant\n"
     "<think>\n"
     "hm\n"
     "</think>\n"
     "\n"
     " Hi there <|im_end|>\n"},
    {"qwen2", Conversation::kSystem,
     "<|im_start|>system\n"
     "Be brief.<|im_end|>\n"
     "<|im_start|>user\n"
     " Hello \n"
     "<|im_end|>\n"
     "<|im_start|>assistant\n"
     "<think>\n"
     "hm\n"
     "</think>\n"
     "\n"
     " Hi there <|im_end|>\n"
     "<|im_start|>user\n"
     "Bye<|im_end|>\n"
     "<|im_start|>assistant\n"},
    {"qwen2", Conversation::kPlain,
     "<|im_start|>system\n"
     "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
     "<|im_start|>user\n"
     " Hello \n"
     "<|im_end|>\n"
     "<|im_start|>assistant\n"
     "<think>\n"
     "hm\n"
     "</think>\n"
     "\n"
     " Hi there <|im_end|>\n"
     "<|im_start|>user\n"
     "Bye<|im_end|>\n"
     "<|im_start|>assistant\n"},
    {"qwen2", Conversation::kOne,
     "<|im_start|>system\n"
     "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
     "<|im_start|>user\n"
     "Hello<|im_end|>\n"
     "<|im_start|>assistant\n"},
    {"qwen2", Conversation::kClosed,
     "<|im_start|>system\n"
     "Be brief.<|im_end|>\n"
     "<|im_start|>user\n"
     " Hello \n"
     "<|im_end|>\n"
     "<|im_start|>assistant\n"
     "<think>\n"
     "hm\n"
     "</think>\n"
     "\n"
     " Hi there <|im_end|>\n"},
    {"qwen3", Conversation::kSystem,
     "<|im_start|>system\n"
     "Be brief.<|im_end|>\n"
     "<|im_start|>user\n"
     " Hello \n"
     "<|im_end|>\n"
     "<|im_start|>assistant\n"
     " Hi there <|im_end|>\n"
     "<|im_start|>user\n"
     "Bye<|im_end|>\n"
     "<|im_start|>assistant\n"},
    {"qwen3", Conversation::kPlain,
     "<|im_start|>user\n"
     " Hello \n"
     "<|im_end|>\n"
     "<|im_start|>assistant\n"
     " Hi there <|im_end|>\n"
     "<|im_start|>user\n"
     "Bye<|im_end|>\n"
     "<|im_start|>assistant\n"},
    {"qwen3", Conversation::kClosed,
     "<|im_start|>system\n"
     "Be brief.<|im_end|>\n"
     "<|im_start|>user\n"
     " Hello \n"
     "<|im_end|>\n"
     "<|im_start|>assistant\n"
     "<think>\n"
     "hm\n"
     "</think>\n"
     "\n"
     " Hi there <|im_end|>\n"},
    {"gemma", Conversation::kSystem,
     "<start_of_turn>user\n"
     "Be brief.\n"
     "\n"
     "Hello<end_of_turn>\n"
     "<start_of_turn>model\n"
     "<think>\n"
     "hm\n"
     "</think>\n"
     "\n"
     " Hi there<end_of_turn>\n"
     "<start_of_turn>user\n"
     "Bye<end_of_turn>\n"
     "<start_of_turn>model\n"},
    {"gemma", Conversation::kPlain,
     "<start_of_turn>user\n"
     "Hello<end_of_turn>\n"
     "<start_of_turn>model\n"
     "<think>\n"
     "hm\n"
     "</think>\n"
     "\n"
     " Hi there<end_of_turn>\n"
     "<start_of_turn>user\n"
     "Bye<end_of_turn>\n"
     "<start_of_turn>model\n"},
    {"gemma", Conversation::kClosed,
     "<start_of_turn>user\n"
     "Be brief.\n"
     "\n"
     "Hello<end_of_turn>\n"
     "<start_of_turn>model\n"
     "<think>\n"
     "hm\n"
     "</think>\n"
     "\n"
     " Hi there<end_of_turn>\n"},
    {"llama3", Conversation::kSystem,
     "<|start_header_id|>system<|end_header_id|>\n"
     "\n"
     "Be brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n"
     "\n"
     "Hello<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n"
     "\n"
     "<think>\n"
     "hm\n"
     "</think>\n"
     "\n"
     " Hi there<|eot_id|><|start_header_id|>user<|end_header_id|>\n"
     "\n"
     "Bye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n"
     "\n"},
    {"llama3", Conversation::kPlain,
     "<|start_header_id|>user<|end_header_id|>\n"
     "\n"
     "Hello<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n"
     "\n"
     "<think>\n"
     "hm\n"
     "</think>\n"
     "\n"
     " Hi there<|eot_id|><|start_header_id|>user<|end_header_id|>\n"
     "\n"
     "Bye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n"
     "\n"},
    {"llama3", Conversation::kClosed,
     "<|start_header_id|>system<|end_header_id|>\n"
     "\n"
     "Be brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n"
     "\n"
     "Hello<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n"
     "\n"
     "<think>\n"
     "hm\n"
     "</think>\n"
     "\n"
     " Hi there<|eot_id|>"},
    {"llama3.1", Conversation::kSystem,
     "<|start_header_id|>system<|end_header_id|>\n"
     "\n"
     "Cutting Knowledge Date: December 2023\n"
     "Today Date: 26 Jul 2024\n"
     "\n"
     "Be brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n"
     "\n"
     "Hello<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n"
     "\n"
     "<think>\n"
     "hm\n"
     "</think>\n"
     "\n"
     " Hi there<|eot_id|><|start_header_id|>user<|end_header_id|>\n"
     "\n"
     "Bye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n"
     "\n"},
    {"llama3.1", Conversation::kPlain,
     "<|start_header_id|>system<|end_header_id|>\n"
     "\n"
     "Cutting Knowledge Date: December 2023\n"
     "Today Date: 26 Jul 2024\n"
     "\n"
     "<|eot_id|><|start_header_id|>user<|end_header_id|>\n"
     "\n"
     "Hello<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n"
     "\n"
     "<think>\n"
     "hm\n"
     "</think>\n"
     "\n"
     " Hi there<|eot_id|><|start_header_id|>user<|end_header_id|>\n"
     "\n"
     "Bye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n"
     "\n"},
    {"llama3.1", Conversation::kClosed,
     "<|start_header_id|>system<|end_header_id|>\n"
     "\n"
     "Cutting Knowledge Date: December 2023\n"
     "Today Date: 26 Jul 2024\n"
     "\n"
     "Be brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n"
     "\n"
     "Hello<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n"
     "\n"
     "<think>\n"
     "hm\n"
     "</think>\n"
     "\n"
     " Hi there<|eot_id|>"},
    {"llama2", Conversation::kSystem,
     "[INST] <<SYS>>\n"
     "Be brief.\n"
     "<</SYS>>\n"
     "\n"
     " Hello [/INST] <think>\n"
     "hm\n"
     "</think>\n"
     "\n"
     " Hi there </s><s>[INST] Bye [/INST]"},
    {"llama2", Conversation::kPlain,
     "[INST] Hello [/INST] <think>\n"
     "hm\n"
     "</think>\n"
     "\n"
     " Hi there </s><s>[INST] Bye [/INST]"},
    {"llama2", Conversation::kClosed,
     "[INST] <<SYS>>\n"
     "Be brief.\n"
     "<</SYS>>\n"
     "\n"
     " Hello [/INST] <think>\n"
     "hm\n"
     "</think>\n"
     "\n"
     " Hi there </s>"},
    {"mistral", Conversation::kSystem,
     " [INST] Be brief.\n"
     "\n"
     " Hello \n"
     " [/INST] <think>\n"
     "hm\n"
     "</think>\n"
     "\n"
     " Hi there </s> [INST] Bye [/INST]"},
    {"mistral", Conversation::kPlain,
     " [INST]  Hello \n"
     " [/INST] <think>\n"
     "hm\n"
     "</think>\n"
     "\n"
     " Hi there </s> [INST] Bye [/INST]"},
    {"mistral", Conversation::kClosed,
     " [INST] Be brief.\n"
     "\n"
     " Hello \n"
     " [/INST] <think>\n"
     "hm\n"
     "</think>\n"
     "\n"
     " Hi there </s>"},
    {"zephyr", Conversation::kSystem,
     "<|system|>\n"
     "Be brief.</s>\n"
     "<|user|>\n"
     " Hello \n"
     "</s>\n"
     "<|assistant|>\n"
     "<think>\n"
     "hm\n"
     "</think>\n"
     "\n"
     " Hi there </s>\n"
     "<|user|>\n"
     "Bye</s>\n"
     "<|assistant|>\n"},
    {"zephyr", Conversation::kPlain,
     "<|user|>\n"
     " Hello \n"
     "</s>\n"
     "<|assistant|>\n"
     "<think>\n"
     "hm\n"
     "</think>\n"
     "\n"
     " Hi there </s>\n"
     "<|user|>\n"
     "Bye</s>\n"
     "<|assistant|>\n"},
    {"zephyr", Conversation::kClosed,
     "<|system|>\n"
     "Be brief.</s>\n"
     "<|user|>\n"
     " Hello \n"
     "</s>\n"
     "<|assistant|>\n"
     "<think>\n"
     "hm\n"
     "</think>\n"
     "\n"
     " Hi there </s>\n"},
};

std::string Render(const ChatTemplate& chat, Conversation conversation) {
  return chat.Render(MessagesOf(conversation), conversation != Conversation::kClosed);
}

TEST(ChatTemplate, RendersAsJinjaDoes) {
  for (const Rendered& expected : kRendered) {
    SCOPED_TRACE(testing::Message()
                 << expected.family << " " << static_cast<int>(expected.conversation));
    EXPECT_EQ(Render(ChatTemplate::FromName(expected.family), expected.conversation),
              expected.text);
  }
}

TEST(ChatTemplate, EveryFamilyIsTested) {
  for (const ChatFamily& family : kChatFamilies) {
    EXPECT_TRUE(std::ranges::any_of(kRendered, [&](const Rendered& r) {
      return r.family == family.name;
    })) << family.name;
    const ChatTemplate chat = ChatTemplate::FromName(family.name);
    EXPECT_EQ(chat.name(), family.name);
    EXPECT_EQ(chat.stop_strings(), std::vector<std::string>{std::string(family.stop)});
  }
}

// A reply that is fed as it was generated, and the next turn: the second prompt begins with the
// first and the reply, so that a session needs to be fed only what is new.
TEST(ChatTemplate, TheNextPromptContinuesTheLast) {
  for (const ChatFamily& family : kChatFamilies) {
    const ChatTemplate chat = ChatTemplate::FromName(family.name);
    std::vector<ChatMessage> messages = {{"system", "Be brief."}, {"user", "Hello"}};
    const std::string first = chat.Render(messages, true);
    const bool space = family.assistant.open == " ";  // the model itself writes it
    messages.push_back({"assistant", "Hi"});
    messages.push_back({"user", "Bye"});
    EXPECT_THAT(chat.Render(messages, true), testing::StartsWith(first + (space ? " Hi" : "Hi")))
        << family.name;
  }
}

class TemplateFile {
 public:
  explicit TemplateFile(const std::string& text) {
    GgufWriter writer;
    writer.SetString("general.architecture", "llama");
    if (!text.empty()) writer.SetString("tokenizer.chat_template", text);
    bytes_ = writer.Serialize();
  }
  ChatTemplate Chat() const { return ChatTemplate::FromGguf(GgufFile::Parse(bytes_, "test.gguf")); }
  std::string Name() const { return std::string(Chat().name()); }
  std::string Error(ErrorCode code) const {
    try {
      Chat();
    } catch (const tq::Error& error) {
      EXPECT_EQ(error.code(), code);
      return error.what();
    }
    ADD_FAILURE() << "was accepted";
    return "";
  }

 private:
  std::vector<std::byte> bytes_;
};

const std::string kImLoop =
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>' }}"
    "{% endfor %}";

TEST(ChatTemplate, RecognisesFamilies) {
  EXPECT_EQ(TemplateFile(kImLoop).Name(), "chatml");
  EXPECT_EQ(TemplateFile("{{'<|im_start|>system\nYou are a helpful AI assistant named SmolLM, "
                         "trained by Hugging Face<|im_end|>\n'}}" +
                         kImLoop)
                .Name(),
            "smollm2");
  EXPECT_EQ(TemplateFile("{{'<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are "
                         "a helpful assistant.<|im_end|>\\n'}}" +
                         kImLoop)
                .Name(),
            "qwen2");
  EXPECT_EQ(TemplateFile(kImLoop + "{% set ns = namespace(last_query_index=0) %}{% if "
                                   "enable_thinking is defined and enable_thinking is false %}")
                .Name(),
            "qwen3");
  EXPECT_EQ(TemplateFile("{{ '<start_of_turn>' + role }}<end_of_turn><start_of_turn>model").Name(),
            "gemma");
  const std::string header = "<|start_header_id|>{{ m.role }}<|end_header_id|>{{ m }}<|eot_id|>";
  EXPECT_EQ(TemplateFile(header).Name(), "llama3");
  EXPECT_EQ(TemplateFile("{{ 'Cutting Knowledge Date: December 2023' }}" + header).Name(),
            "llama3.1");
  EXPECT_EQ(TemplateFile("{{ '<<SYS>>\\n' }}{{ bos_token + '[INST] ' + m + ' [/INST]' }}").Name(),
            "llama2");
  EXPECT_EQ(TemplateFile("{{ ' [INST] ' + m + ' [/INST]' }}").Name(), "mistral");
  EXPECT_EQ(TemplateFile("{{ '<|user|>\n' + message['content'] + eos_token }}<|assistant|>").Name(),
            "zephyr");
}

TEST(ChatTemplate, TakesTheFilesOwnSystemText) {
  const std::vector<ChatMessage> hello = {{"user", "Hello"}};
  const std::string turn = "<|im_start|>user\nHello<|im_end|>\n";
  EXPECT_EQ(TemplateFile(kImLoop).Chat().Render(hello, false), turn);
  EXPECT_EQ(TemplateFile("{{ '<|im_start|>system\\n' + x }}{{ '<|im_start|>system\\nYou are "
                         "Dolphin.\\nBark.<|im_end|>\\n' }}" +
                         kImLoop)
                .Chat()
                .Render(hello, false),
            "<|im_start|>system\nYou are Dolphin.\nBark.<|im_end|>\n" + turn);
}

TEST(ChatTemplate, SaysWhatAnUnknownTemplateLooksLike) {
  EXPECT_THAT(
      TemplateFile("{{ '<|bot|>' }} x<y <|bot|>{{ '<human>' }}").Error(ErrorCode::kUnsupported),
      AllOf(HasSubstr("tokenizer.chat_template"), HasSubstr("the tags <|bot|>, <human>;"),
            HasSubstr("chatml"), HasSubstr("gemma")));
  EXPECT_THAT(TemplateFile("{{ messages }}").Error(ErrorCode::kUnsupported), HasSubstr("no tags"));
  // Near a family, but with parts that it has not.
  for (const char* part : {"<|im_start|>assistant\\n<think>\\n", "<|im_sep|>", "strftime_now()",
                           "{% set default_system_message = 'x' %}"}) {
    EXPECT_THAT(TemplateFile(kImLoop + part).Error(ErrorCode::kUnsupported),
                HasSubstr("<|im_end|>"))
        << part;
  }
  EXPECT_THAT(TemplateFile("").Error(ErrorCode::kNotFound), HasSubstr("tokenizer.chat_template"));
}

TEST(ChatTemplate, RefusesWhatCannotBeMeant) {
  const auto error_of = [](const auto& work) {
    try {
      work();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      return std::string(error.what());
    }
    ADD_FAILURE() << "was accepted";
    return std::string();
  };
  EXPECT_THAT(error_of([] { ChatTemplate::FromName("klingon"); }),
              AllOf(HasSubstr("\"klingon\""), HasSubstr("smollm2, qwen2, qwen3, chatml")));
  const std::vector<ChatMessage> tool = {{"user", "a"}, {"tool", "b"}};
  EXPECT_THAT(error_of([&] { ChatTemplate::FromName("chatml").Render(tool, true); }),
              AllOf(HasSubstr("message 2"), HasSubstr("\"tool\"")));
  const std::vector<ChatMessage> late = {{"user", "a"}, {"system", "b"}};
  EXPECT_THAT(error_of([&] { ChatTemplate::FromName("gemma").Render(late, true); }),
              AllOf(HasSubstr("message 2"), HasSubstr("gemma")));
  EXPECT_EQ(ChatTemplate::FromName("chatml").Render(late, false),
            "<|im_start|>user\na<|im_end|>\n<|im_start|>system\nb<|im_end|>\n");
  EXPECT_EQ(ChatTemplate::FromName("smollm2").Render({}, true), "<|im_start|>assistant\n");
}

// The real files, if they are there: recognised, and their own system text is the table's.
TEST(ChatTemplate, RealModelFiles) {
  const char* folder = std::getenv("TQ_MODELS");
  if (folder == nullptr) GTEST_SKIP() << "TQ_MODELS is not set";
  const auto path = [&](const char* name) { return std::string(folder) + "/" + name + ".gguf"; };
  const auto there = [&](const char* name) { return std::filesystem::exists(path(name)); };
  const auto open = [&](const char* name) { return GgufFile::Open(path(name)); };
  for (const auto& [file, family] :
       {std::pair{"smollm2", "smollm2"}, {"qwen2.5-coder-1.5b", "qwen2"}}) {
    if (!there(file)) continue;
    const ChatTemplate chat = ChatTemplate::FromGguf(open(file));
    EXPECT_EQ(chat.name(), family);
    for (const Rendered& expected : kRendered) {
      if (expected.family != std::string_view(family)) continue;
      EXPECT_EQ(Render(chat, expected.conversation), expected.text);
    }
  }
  if (there("gemma3-270m")) {
    EXPECT_THROW(ChatTemplate::FromGguf(open("gemma3-270m")), Error);  // a base model
  }
}

}  // namespace
}  // namespace tq
