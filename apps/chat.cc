// SPDX-License-Identifier: Apache-2.0
// turboquant chat: a conversation on the terminal, in the model's chat template.
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>

#include "apps/commands.h"
#include "apps/common_flags.h"
#include "apps/conversation.h"
#include "apps/interrupt.h"
#include "apps/text_input.h"
#include "apps/utf8.h"

namespace tq::app {
namespace {

struct ChatFlags : ReplyFlags {
  bool single_turn = false;
  bool no_display_prompt = false;
};

constexpr const char* kHelp =
    "/save FILE   keep the conversation and its cache in a file\n"
    "/load FILE   go on from such a file\n"
    "/clear       begin anew\n"
    "/stats       speed of the last reply and memory of the cache\n"
    "/help        this list\n"
    "/exit        end (also Ctrl-D)\n"
    "Ctrl-C ends a reply; at the prompt it ends the program.\n";

std::optional<std::string> ReadLine(bool terminal) {
  if (terminal) {
    fmt::print(stderr, "> ");
    std::fflush(stderr);
  }
  char* line = nullptr;
  size_t size = 0;
  errno = 0;
  const ssize_t length = getline(&line, &size, stdin);
  std::optional<std::string> text;
  if (length >= 0) text.emplace(line, static_cast<size_t>(length));
  std::free(line);
  while (text && !text->empty() && (text->back() == '\n' || text->back() == '\r')) text->pop_back();
  return text;
}

class Chat {
 public:
  Chat(const ChatFlags& flags, Conversation& conversation)
      : flags_(flags), conversation_(conversation) {}

  void Say(const std::string& text) {
    try {
      RequireUtf8(text, "the message");
      const GenerateResult result = conversation_.Turn(
          text, MakeGenerateOptions(flags_.generate),
          [](std::string_view piece) {
            fmt::print("{}", piece);
            std::fflush(stdout);
            return !Interrupted();
          },
          [](const std::string& notice) { fmt::print(stderr, "({})\n", notice); });
      fmt::print("\n");
      std::fflush(stdout);
      if (result.reason == StopReason::kCancelled || result.reason == StopReason::kContextFull) {
        fmt::print(stderr, "({})\n", StopReasonText(result.reason));
      }
    } catch (const Error& error) {
      if (flags_.single_turn) throw;
      fmt::print(stderr, "error: {}\n", error.what());
    }
  }

  // False: end.
  bool Command(const std::string& line) {
    const size_t blank = line.find(' ');
    const std::string name = line.substr(0, blank);
    const std::string argument =
        blank == std::string::npos ? "" : line.substr(line.find_first_not_of(' ', blank));
    if (name == "/exit" || name == "/quit") return false;
    try {
      if ((name == "/save" || name == "/load") && argument.empty()) {
        fmt::print(stderr, "{} needs a file name\n", name);
      } else if (name == "/save") {
        conversation_.Save(argument);
        fmt::print(stderr, "saved {} tokens to {}\n", conversation_.session().length(), argument);
      } else if (name == "/load") {
        conversation_.Load(argument);
        fmt::print(stderr, "{} messages, {} tokens from {}\n", conversation_.messages().size(),
                   conversation_.session().length(), argument);
      } else if (name == "/clear") {
        conversation_.Clear();
        fmt::print(stderr, "cleared\n");
      } else if (name == "/stats") {
        PrintTiming(conversation_.last_timing(), conversation_.session());
      } else {
        if (name != "/help") fmt::print(stderr, "unknown command {}\n", name);
        fmt::print(stderr, "{}", kHelp);
      }
    } catch (const Error& error) {
      fmt::print(stderr, "error: {}\n", error.what());
    }
    return true;
  }

  void Loop() {
    const bool terminal = isatty(STDIN_FILENO) == 1;
    while (true) {
      const std::optional<std::string> line = ReadLine(terminal);
      if (!line) {
        if (terminal) fmt::print(stderr, "\n");
        ThrowIfInterrupted();
        return;  // end of input
      }
      if (line->empty()) continue;
      if (line->front() == '/') {
        if (!Command(*line)) return;
        continue;
      }
      Say(*line);
      if (Interrupted() && !terminal) ThrowIfInterrupted();
      ClearInterrupt();  // it ended the reply, not the chat
    }
  }

 private:
  const ChatFlags& flags_;
  Conversation& conversation_;
};

void RunChat(const ChatFlags& flags) {
  const std::string first = ReadText(flags.text);
  if (flags.single_turn && first.empty())
    Throw(ErrorCode::kInvalidArgument, "--single-turn needs a message with -p or -f");
  const auto engine = LoadEngine(flags.model);
  SessionOptions options = MakeSessionOptions(*engine, flags.cache, flags.step, StepUse::kGenerate);
  options.calibration = CalibrationFor(*engine, flags.cache.calibration, options.cache);
  Conversation conversation(engine, options, ResolveChatTemplate(*engine, flags.generate),
                            ResolveSeed(flags.sampler, flags.seed), flags.generate.keep,
                            ReadSystemPrompt(flags.generate));
  PrintCacheSummary(conversation.session());
  Chat chat(flags, conversation);
  if (!first.empty()) {
    if (!flags.no_display_prompt) fmt::print("> {}\n", first);
    chat.Say(first);
  }
  if (flags.single_turn) {
    PrintTiming(conversation.last_timing(), conversation.session());
    ThrowIfInterrupted();
    return;
  }
  if (isatty(STDIN_FILENO) == 1) fmt::print(stderr, "/help lists the commands\n");
  chat.Loop();
}

}  // namespace

void AddChatCommand(Command root) {
  auto flags = std::make_shared<ChatFlags>();
  const Command command = root.AddCommand("chat", "Talk with a model on the terminal");
  AddReplyFlags(command, *flags);
  command.AddFlag("--single-turn", flags->single_turn,
                  "One message (-p), one reply, then end (-st)");
  command.AddFlag("--no-display-prompt", flags->no_display_prompt,
                  "Do not repeat the message of -p");
  command.OnRun([flags] { RunChat(*flags); });
}

}  // namespace tq::app
