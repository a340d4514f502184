// SPDX-License-Identifier: Apache-2.0
// turboquant run: one prompt in, one continuation out; with --session it goes on where a file left
// off.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>

#include "apps/commands.h"
#include "apps/common_flags.h"
#include "apps/generate_flags.h"
#include "apps/interrupt.h"
#include "apps/progress.h"
#include "apps/text_input.h"

namespace tq::app {
namespace {

struct RunFlags : ReplyFlags {
  std::string session_file;
  bool single_turn = false;
  bool conversation = false;
  bool no_display_prompt = false;
};

using Clock = std::chrono::steady_clock;
double Since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Also adds what ends a reply to `generate`, if the prompt is a message.
std::vector<TokenId> PromptTokens(const RunFlags& flags, const Engine& engine,
                                  const std::string& text, GenerateOptions& generate) {
  std::string prompt = text;
  const std::string system = ReadSystemPrompt(flags.generate);
  if (!system.empty() || flags.single_turn || flags.conversation) {
    const ChatTemplate chat = ResolveChatTemplate(engine, flags.generate);
    std::vector<ChatMessage> messages;
    if (!system.empty()) messages.push_back({"system", system});
    messages.push_back({"user", text});
    prompt = chat.Render(messages, true);
    for (const std::string& stop : chat.stop_strings()) generate.stop_strings.push_back(stop);
  }
  return engine.tokenizer().Encode(prompt, true, true);
}

// Brings the session to hold all of `tokens` but at least the last one, which is left to be
// computed for its logits. The sampler goes on where it was if the tokens do, else anew.
void ReuseSession(Session& session, Sampler& sampler, const RunFlags& flags,
                  std::vector<TokenId>& tokens, bool has_prompt) {
  const std::filesystem::path path = flags.session_file;
  size_t known = 0;  // to the sampler
  if (!path.empty() && std::filesystem::exists(path)) {
    const std::vector<std::byte> state = session.Restore(path);
    const std::vector<TokenId> held = session.tokens();
    if (!has_prompt) tokens = held;  // go on where it ended
    const auto shared =
        std::mismatch(held.begin(), held.end(), tokens.begin(), tokens.end()).first - held.begin();
    fmt::print(stderr, "session  {}: {} tokens, {} shared with the prompt\n", path.string(),
               held.size(), shared);
    if (static_cast<size_t>(shared) == held.size() && flags.seed < 0) {
      sampler.RestoreState(state);
      known = held.size();
    }
    const int64_t keep = std::min<int64_t>(shared, static_cast<int64_t>(tokens.size()) - 1);
    session.Truncate(std::max<int64_t>(keep, 0));
  }
  for (size_t i = known; i < tokens.size(); ++i) sampler.Accept(tokens[i]);
}

// Lets the token that was chosen last enter the session too, so that a later run goes on after it;
// not the end of a reply, which would begin something new.
void SaveSession(Session& session, const Sampler& sampler, const GenerateResult& result,
                 const std::string& path) {
  const bool room = session.length() < session.options().context;
  if (!result.tokens.empty() && result.reason != StopReason::kEndOfGeneration && room)
    session.Append({&result.tokens.back(), 1});
  session.Save(path, sampler.SaveState());
  fmt::print(stderr, "session saved to {}\n", path);
}

void Run(const RunFlags& flags) {
  const bool has_session =
      !flags.session_file.empty() && std::filesystem::exists(flags.session_file);
  // Said now: at the end it would cost what was generated.
  const std::filesystem::path folder = std::filesystem::path(flags.session_file).parent_path();
  if (!folder.empty() && !std::filesystem::is_directory(folder))
    Throw(ErrorCode::kNotFound, "--session {}: there is no folder {}", flags.session_file,
          folder.string());
  const bool has_prompt = HasText(flags.text);
  if (!has_prompt && !has_session)
    Throw(ErrorCode::kInvalidArgument, "give a prompt with -p TEXT or -f FILE");
  const std::string text = ReadText(flags.text);
  const auto engine = LoadEngine(flags.model);
  SessionOptions options = MakeSessionOptions(*engine, flags.cache, flags.step, StepUse::kGenerate);
  GenerateOptions generate = MakeGenerateOptions(flags.generate);
  std::vector<TokenId> tokens;
  if (has_prompt) tokens = PromptTokens(flags, *engine, text, generate);
  if (has_prompt && tokens.empty()) Throw(ErrorCode::kInvalidArgument, "the prompt is empty");
  const int64_t context = options.context > 0 ? options.context : engine->spec().context;
  if (static_cast<int64_t>(tokens.size()) >= context) {
    Throw(
        ErrorCode::kInvalidArgument,
        "the prompt has {} tokens and the context {}: shorten it or give a larger -c (at least {})",
        tokens.size(), context, tokens.size() + 1);
  }
  options.calibration = CalibrationFor(*engine, flags.cache.calibration, options.cache);
  Session session(engine, options);
  PrintCacheSummary(session);
  Sampler sampler(ResolveSeed(flags.sampler, flags.seed));
  ReuseSession(session, sampler, flags, tokens, has_prompt);
  if (tokens.empty())
    Throw(ErrorCode::kInvalidArgument, "{} holds no tokens; give a prompt", flags.session_file);
  if (has_prompt && !flags.no_display_prompt) fmt::print("{}", text);
  std::fflush(stdout);

  Timing timing;
  const auto start = Clock::now();
  Progress bar("prompt", Progress::Unit::kTokens);
  const std::span<const TokenId> fresh =
      std::span<const TokenId>(tokens).subspan(static_cast<size_t>(session.length()));
  const std::span<const float> logits = session.Append(fresh, [&](int64_t done, int64_t total) {
    ThrowIfInterrupted();
    bar.Update(static_cast<uint64_t>(done), static_cast<uint64_t>(total));
  });
  bar.Done();
  timing.prompt_tokens = static_cast<int64_t>(fresh.size());
  timing.prompt_seconds = Since(start);
  const GenerateResult result =
      Generate(session, sampler, logits, generate, [](std::string_view piece) {
        fmt::print("{}", piece);
        std::fflush(stdout);
        return !Interrupted();
      });
  fmt::print("\n");
  std::fflush(stdout);
  timing.generated_tokens = static_cast<int64_t>(result.tokens.size());
  timing.decode_seconds = result.decode_seconds;
  PrintTiming(timing, session);
  if (result.reason == StopReason::kContextFull) {
    fmt::print(stderr, "ended: the context of {} tokens is full; give a larger -c\n", context);
  }
  if (!flags.session_file.empty()) SaveSession(session, sampler, result, flags.session_file);
  ThrowIfInterrupted();
}

}  // namespace

void AddRunCommand(Command root) {
  auto flags = std::make_shared<RunFlags>();
  const Command command = root.AddCommand("run", "Continue a prompt");
  AddReplyFlags(command, *flags);
  command.AddOption("--session", flags->session_file,
                    "Go on from this file if it is there; write it at the end");
  command.AddFlag("--single-turn", flags->single_turn,
                  "The prompt is a user's message in the model's chat template (-st)");
  command.AddFlag("--conversation,!--no-conversation", flags->conversation,
                  "The same (-cnv); for several turns see `chat`");
  command.AddFlag("--no-display-prompt", flags->no_display_prompt, "Print only what is generated");
  command.OnRun([flags] { Run(*flags); });
}

}  // namespace tq::app
