// SPDX-License-Identifier: Apache-2.0
#include "apps/conversation.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "apps/interrupt.h"
#include "turboquant/base/error.h"

namespace tq::app {
namespace {

using Clock = std::chrono::steady_clock;

std::vector<ChatMessage> Opening(const std::string& system) {
  if (system.empty()) return {};
  return {{"system", system}};
}

// What Save puts beside the cache, as bytes of JSON; the sampler's state as numbers.
std::vector<std::byte> Pack(const std::vector<ChatMessage>& messages,
                            const std::optional<std::string>& fed, const Sampler& sampler) {
  nlohmann::json json;
  for (const ChatMessage& message : messages)
    json["messages"].push_back({{"role", message.role}, {"content", message.content}});
  if (fed) json["fed"] = *fed;
  std::vector<uint8_t> state;
  for (const std::byte b : sampler.SaveState()) state.push_back(static_cast<uint8_t>(b));
  json["sampler"] = state;
  // Cut-off replies may end within a character.
  const std::string text = json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

}  // namespace

Conversation::Conversation(std::shared_ptr<const Engine> engine, const SessionOptions& options,
                           ChatTemplate chat, const SamplerSpec& sampler, int64_t keep,
                           std::string system)
    : engine_(engine),
      session_(engine, options),
      chat_(std::move(chat)),
      sampler_spec_(sampler),
      sampler_(sampler),
      keep_(keep),
      messages_(Opening(system)) {}

int64_t Conversation::context() const {
  return session_.options().context > 0 ? session_.options().context : engine_->spec().context;
}

// The tokens that the session shall hold for this text; the `newest` last ones must not be dropped.
// Usually the session holds the beginning already. If not (the template rewrites earlier turns, a
// reply was cut at a stop string), the text is taken as a whole, and Hold() keeps what is equal.
std::vector<TokenId> Conversation::Wanted(const std::string& rendered, size_t& newest) const {
  const Tokenizer& tokenizer = engine_->tokenizer();
  newest = 0;
  if (!fed_ || !rendered.starts_with(*fed_)) return tokenizer.Encode(rendered, true, true);
  std::vector<TokenId> wanted = session_.tokens();
  const std::vector<TokenId> fresh =
      tokenizer.Encode(std::string_view(rendered).substr(fed_->size()), fed_->empty(), true);
  newest = fresh.size();
  wanted.insert(wanted.end(), fresh.begin(), fresh.end());
  return wanted;
}

// Leaves room for one more token: drops the older half of what lies between the kept tokens and the
// newest (more if needed).
std::vector<TokenId> Conversation::Fit(std::vector<TokenId> wanted, size_t newest,
                                       const Notice& notice) const {
  const auto length = static_cast<int64_t>(wanted.size());
  if (length < context()) return wanted;
  const int64_t old = length - static_cast<int64_t>(newest);
  const int64_t keep =
      std::clamp<int64_t>(keep_, engine_->tokenizer().special().add_bos && old > 0 ? 1 : 0, old);
  const int64_t drop = std::max((old - keep) / 2, length + 1 - context());
  if (keep + drop > old && newest > 0) {
    Throw(ErrorCode::kInvalidArgument,
          "{} new tokens do not fit a context of {} of which {} are kept: shorten the message or "
          "give a larger -c",
          newest, context(), keep);
  }
  if (notice)
    notice(fmt::format(
        "context full: dropped {} tokens after the first {}, computing the remaining {} anew", drop,
        keep, length - keep - drop));
  wanted.erase(wanted.begin() + keep, wanted.begin() + keep + drop);
  return wanted;
}

// Brings the session to hold exactly `wanted`, computing what it does not hold yet and at least the
// last token, for its logits.
Conversation::Held Conversation::Hold(const std::vector<TokenId>& wanted) {
  const auto equal = std::ranges::mismatch(session_.tokens(), wanted).in2 - wanted.begin();
  const int64_t kept = std::min<int64_t>(equal, static_cast<int64_t>(wanted.size()) - 1);
  if (kept < session_.length()) session_.Truncate(kept);
  const auto computed = std::span(wanted).subspan(static_cast<size_t>(kept));
  return {computed, session_.Append(computed, [](int64_t, int64_t) { ThrowIfInterrupted(); })};
}

GenerateResult Conversation::Turn(std::string_view text, GenerateOptions options,
                                  const std::function<bool(std::string_view)>& on_text,
                                  const std::function<void(const std::string&)>& notice) {
  for (const std::string& stop : chat_.stop_strings()) options.stop_strings.push_back(stop);
  messages_.push_back({"user", std::string(text)});
  try {
    const GenerateResult reply = Reply(options, on_text, notice);
    messages_.push_back({"assistant", reply.text});
    return reply;
  } catch (...) {
    messages_.pop_back();
    throw;
  }
}

GenerateResult Conversation::Reply(GenerateOptions options,
                                   const std::function<bool(std::string_view)>& on_text,
                                   const Notice& notice) {
  const auto start = Clock::now();
  const Tokenizer& tokenizer = engine_->tokenizer();
  const bool first = session_.length() == 0;
  std::string fed = chat_.Render(messages_, true);
  size_t newest = 0;
  std::vector<TokenId> wanted = Wanted(fed, newest);
  wanted = Fit(std::move(wanted), newest, notice);
  fed_.reset();
  Held held = Hold(wanted);
  for (const TokenId token : held.computed) sampler_.Accept(token);
  if (first && keep_ < 0) keep_ = session_.length();
  timing_ = {.prompt_tokens = static_cast<int64_t>(held.computed.size()),
             .prompt_seconds = std::chrono::duration<double>(Clock::now() - start).count()};

  GenerateResult total{};
  while (true) {
    const GenerateResult part = Generate(session_, sampler_, held.logits, options, on_text);
    total.reason = part.reason;
    total.text += part.text;
    total.tokens.insert(total.tokens.end(), part.tokens.begin(), part.tokens.end());
    total.decode_seconds += part.decode_seconds;
    if (part.tokens.empty()) break;
    // The last token was chosen, but has not entered the session.
    const TokenId last = part.tokens.back();
    fed += tokenizer.Decode(std::span(part.tokens).first(part.tokens.size() - 1));
    if (part.reason != StopReason::kContextFull) break;
    if (options.max_tokens >= 0) {
      options.max_tokens -= static_cast<int64_t>(part.tokens.size());
      if (options.max_tokens <= 0) break;
    }
    wanted = session_.tokens();
    wanted.push_back(last);
    wanted = Fit(std::move(wanted), 1, notice);
    held = Hold(wanted);
    fed += tokenizer.Decode({&last, 1});
  }
  fed_ = std::move(fed);
  timing_.generated_tokens = static_cast<int64_t>(total.tokens.size());
  timing_.decode_seconds = total.decode_seconds;
  return total;
}

void Conversation::Clear() {
  session_.Clear();
  fed_ = "";
  const bool system = !messages_.empty() && messages_.front().role == "system";
  messages_.resize(system ? 1 : 0);
  sampler_ = Sampler(sampler_spec_);
}

void Conversation::Save(const std::filesystem::path& path) const {
  session_.Save(path, Pack(messages_, fed_, sampler_));
}

void Conversation::Load(const std::filesystem::path& path) {
  const std::vector<std::byte> extra = session_.Restore(path);
  const char* begin = reinterpret_cast<const char*>(extra.data());
  const nlohmann::json json = nlohmann::json::parse(begin, begin + extra.size(), nullptr, false);
  try {
    std::vector<ChatMessage> messages;
    for (const auto& message : json.at("messages"))
      messages.push_back({message.at("role"), message.at("content")});
    const std::vector<uint8_t> state = json.at("sampler");
    std::optional<std::string> fed;
    if (json.contains("fed")) fed = json.at("fed").get<std::string>();
    sampler_.RestoreState(std::as_bytes(std::span(state)));
    messages_ = std::move(messages);
    fed_ = std::move(fed);
  } catch (const std::exception&) {
    Clear();
    Throw(ErrorCode::kCorruptFile,
          "{} was not saved by /save: it holds no conversation (run --session writes another kind)",
          path.string());
  }
}

}  // namespace tq::app
