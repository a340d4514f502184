// SPDX-License-Identifier: Apache-2.0
#include "apps/conversation.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "turboquant/base/error.h"

namespace tq::app {
namespace {

using Clock = std::chrono::steady_clock;

std::vector<ChatMessage> Opening(const std::string& system) {
  if (system.empty()) return {};
  return {{"system", system}};
}

// What Save puts beside the cache, as bytes of JSON; the sampler's state as numbers.
std::vector<std::byte> Pack(const std::vector<ChatMessage>& messages, const std::string& fed,
                            const Sampler& sampler) {
  nlohmann::json json;
  for (const ChatMessage& message : messages)
    json["messages"].push_back({{"role", message.role}, {"content", message.content}});
  json["fed"] = fed;
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

// Drops the older half of what comes after the kept tokens (more if needed) and computes the rest
// anew: positions move.
std::span<const float> Conversation::MakeRoom(
    int64_t tokens, const std::function<void(const std::string&)>& notice) {
  const std::vector<TokenId> held = session_.tokens();
  const auto length = static_cast<int64_t>(held.size());
  if (length + tokens <= context()) return {};
  const int64_t keep =
      std::clamp<int64_t>(keep_, engine_->tokenizer().special().add_bos ? 1 : 0, length);
  const int64_t drop = std::max((length - keep) / 2, length + tokens - context());
  if (keep + drop > length) {
    Throw(ErrorCode::kInvalidArgument,
          "{} new tokens do not fit a context of {} of which {} are kept: shorten the message or "
          "give a larger -c",
          tokens, context(), keep);
  }
  if (notice)
    notice(fmt::format(
        "context full: dropped {} tokens after the first {}, computing the remaining {} anew", drop,
        keep, length - keep - drop));
  session_.Truncate(keep);
  const std::span<const TokenId> rest =
      std::span<const TokenId>(held).subspan(static_cast<size_t>(keep + drop));
  return rest.empty() ? std::span<const float>() : session_.Append(rest);
}

std::span<const float> Conversation::Feed(const std::vector<TokenId>& tokens,
                                          const std::function<void(const std::string&)>& notice) {
  MakeRoom(static_cast<int64_t>(tokens.size()) + 1, notice);
  for (const TokenId token : tokens) sampler_.Accept(token);
  return session_.Append(tokens);
}

GenerateResult Conversation::Turn(std::string_view text, GenerateOptions options,
                                  const std::function<bool(std::string_view)>& on_text,
                                  const std::function<void(const std::string&)>& notice) {
  const auto start = Clock::now();
  messages_.push_back({"user", std::string(text)});
  const std::string rendered = chat_.Render(messages_, true);
  // Usually the session holds the beginning of this already; a template that rewrites earlier turns
  // starts anew.
  if (!rendered.starts_with(fed_)) {
    session_.Clear();
    fed_.clear();
  }
  const bool first = fed_.empty();
  const std::vector<TokenId> fresh =
      engine_->tokenizer().Encode(std::string_view(rendered).substr(fed_.size()), first, true);
  std::span<const float> logits;
  try {
    logits = Feed(fresh, notice);
  } catch (...) {
    messages_.pop_back();
    throw;
  }
  fed_ = rendered;
  if (first && keep_ < 0) keep_ = session_.length();
  timing_ = {.prompt_tokens = static_cast<int64_t>(fresh.size()),
             .prompt_seconds = std::chrono::duration<double>(Clock::now() - start).count()};
  for (const std::string& stop : chat_.stop_strings()) options.stop_strings.push_back(stop);

  GenerateResult total{};
  int64_t left = options.max_tokens;
  while (true) {
    options.max_tokens = left;
    const auto before = static_cast<int64_t>(session_.tokens().size());
    GenerateResult part = Generate(session_, sampler_, logits, options, on_text);
    total.reason = part.reason;
    total.text += part.text;
    total.tokens.insert(total.tokens.end(), part.tokens.begin(), part.tokens.end());
    total.decode_seconds += part.decode_seconds;
    // Tokens that were chosen but did not enter the session any more.
    const auto entered =
        static_cast<size_t>(static_cast<int64_t>(session_.tokens().size()) - before);
    const std::vector<TokenId> pending(
        part.tokens.begin() + static_cast<ptrdiff_t>(std::min(entered, part.tokens.size())),
        part.tokens.end());
    fed_ += engine_->tokenizer().Decode(
        std::span<const TokenId>(part.tokens).first(part.tokens.size() - pending.size()));
    if (part.reason != StopReason::kContextFull || part.tokens.empty()) break;
    if (left >= 0 && (left -= static_cast<int64_t>(part.tokens.size())) <= 0) break;
    logits = MakeRoom(static_cast<int64_t>(pending.size()) + 1, notice);
    if (!pending.empty()) {
      logits = session_.Append(pending);
      fed_ += engine_->tokenizer().Decode(pending);
    }
    if (logits.empty()) break;
  }
  messages_.push_back({"assistant", total.text});
  timing_.generated_tokens = static_cast<int64_t>(total.tokens.size());
  timing_.decode_seconds = total.decode_seconds;
  return total;
}

void Conversation::Clear() {
  session_.Clear();
  fed_.clear();
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
    for (const auto& message : json.value("messages", nlohmann::json::array()))
      messages.push_back({message.at("role"), message.at("content")});
    const std::vector<uint8_t> state = json.at("sampler");
    fed_ = json.at("fed");
    messages_ = std::move(messages);
    sampler_.RestoreState(std::as_bytes(std::span(state)));
  } catch (const nlohmann::json::exception&) {
    Clear();
    Throw(ErrorCode::kCorruptFile,
          "{} was not saved by /save: it holds no conversation (run --session writes another kind)",
          path.string());
  }
}

}  // namespace tq::app
