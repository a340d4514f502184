// SPDX-License-Identifier: Apache-2.0
#include "apps/generate_flags.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "apps/cache_watch_report.h"
#include "apps/progress.h"
#include "apps/utf8.h"

namespace tq::app {
namespace {

void AddGenerateFlags(Command command, GenerateFlags& flags) {
  command
      .AddOption("-n,--predict,--n-predict", flags.predict,
                 "Tokens to generate at most (-1: until the model ends)")
      .FromVariable("LLAMA_ARG_N_PREDICT")
      .ShowDefault();
  command.AddOption("-r,--reverse-prompt,--stop", flags.stops,
                    "Text that ends generation (may be given several times)");
  command.AddFlag("--ignore-eos", flags.ignore_eos, "Go on where the model would end");
  command.AddFlag("--special", flags.show_special, "Show special tokens in the output");
  command.AddOption("--system-prompt", flags.system, "System message (-sys)");
  command.AddOption("--system-prompt-file", flags.system_file,
                    "File with the system message (-sysf)");
  command
      .AddOption("--chat-template", flags.chat_template,
                 "Template by name instead of the model file's")
      .FromVariable("LLAMA_ARG_CHAT_TEMPLATE");
  command
      .AddOption("--keep", flags.keep,
                 "First tokens to keep when the context is full (-1: the first prompt)")
      .ShowDefault();
  command
      .AddFlag("--jinja,!--no-jinja", flags.jinja,
               "Accepted; templates of the known families are built in")
      .FromVariable("LLAMA_ARG_JINJA");
}

}  // namespace

void AddReplyFlags(Command command, ReplyFlags& flags) {
  AddModelFlags(command, flags.model);
  AddTextFlags(command, flags.text);
  AddGenerateFlags(command, flags.generate);
  AddCacheTypeFlags(command, flags.cache);
  AddCacheShapeFlags(command, flags.cache);
  AddCacheAgeFlag(command, flags.cache);
  AddCacheBudgetFlag(command, flags.cache);
  AddCacheWatchFlag(command, flags.cache);
  AddStepFlags(command, flags.step, StepUse::kGenerate);
  AddSamplingFlags(command, flags.sampler, flags.seed);
}

GenerateOptions MakeGenerateOptions(const GenerateFlags& flags) {
  GenerateOptions options;
  options.max_tokens = flags.predict < 0 ? -1 : flags.predict;
  for (const std::string& stop : flags.stops) options.stop_strings.push_back(ProcessEscapes(stop));
  options.ignore_eos = flags.ignore_eos;
  options.show_special = flags.show_special;
  return options;
}

ChatTemplate ResolveChatTemplate(const Engine& engine, const GenerateFlags& flags) {
  if (!flags.chat_template.empty()) return ChatTemplate::FromName(flags.chat_template);
  if (engine.chat_template() != nullptr) return *engine.chat_template();
  Throw(ErrorCode::kUnsupported,
        "no chat template for this model ({}); name one with --chat-template, or use `run -p` "
        "without -sys and -st",
        engine.why_no_chat_template());
}

std::string ReadSystemPrompt(const GenerateFlags& flags) {
  if (!flags.system.empty() && !flags.system_file.empty())
    Throw(ErrorCode::kInvalidArgument, "give -sys or -sysf, not both");
  const std::string text =
      flags.system_file.empty() ? ProcessEscapes(flags.system) : ReadTextFile(flags.system_file);
  RequireUtf8(text, "the system prompt");
  return text;
}

void PrintTiming(const Timing& timing, Session& session) {
  const auto rate = [](int64_t tokens, double seconds) {
    return tokens > 0 && seconds > 0
               ? fmt::format(", {:.1f} tok/s", static_cast<double>(tokens) / seconds)
               : std::string();
  };
  const KvMemory memory = session.cache().Memory();
  fmt::print(stderr,
             "prompt {} tokens{}; generated {} tokens{}; cache {} tokens in {}, {:.2f} bits per "
             "value\n",
             timing.prompt_tokens, rate(timing.prompt_tokens, timing.prompt_seconds),
             timing.generated_tokens, rate(timing.generated_tokens - 1, timing.decode_seconds),
             session.length(), FormatBytes(static_cast<double>(memory.used_bytes)),
             memory.bits_per_value);
  if (session.cache_watch() != nullptr) PrintCacheWatch(session.cache_watch()->drift());
}

const char* StopReasonText(StopReason reason) {
  switch (reason) {
    case StopReason::kEndOfGeneration:
      return "end of reply";
    case StopReason::kMaxTokens:
      return "-n reached";
    case StopReason::kStopString:
      return "stop text";
    case StopReason::kContextFull:
      return "context full";
    case StopReason::kCancelled:
      return "interrupted";
  }
  return "";
}

}  // namespace tq::app
