// SPDX-License-Identifier: Apache-2.0
#include "turboquant/engine/generate.h"

#include <algorithm>
#include <chrono>
#include <limits>

#include "turboquant/engine/stop_matcher.h"

namespace tq {
namespace {

using Clock = std::chrono::steady_clock;

// Token bytes -> text for the reader: stop strings cut off, characters whole.
class TextOut {
 public:
  TextOut(const std::vector<std::string>& stops,
          const std::function<bool(std::string_view)>& on_text)
      : stops_(stops), on_text_(on_text) {}

  bool Push(std::string_view bytes) { return Deliver(characters_.Push(stops_.Push(bytes))); }
  void Finish() {
    const std::string rest = characters_.Push(stops_.Flush()) + characters_.Flush();
    if (!rest.empty()) Deliver(rest);
  }
  bool stopped() const { return stops_.stopped(); }
  std::string& text() { return text_; }

 private:
  bool Deliver(std::string_view piece) {
    text_ += piece;
    return !on_text_ || on_text_(piece);
  }

  StopMatcher stops_;
  Utf8Stream characters_;
  const std::function<bool(std::string_view)>& on_text_;
  std::string text_;
};

}  // namespace

GenerateResult Generate(Session& session, Sampler& sampler, std::span<const float> logits,
                        const GenerateOptions& options,
                        const std::function<bool(std::string_view)>& on_text) {
  const Tokenizer& tokenizer = session.engine().tokenizer();
  const std::vector<TokenId>& ends = tokenizer.special().end_of_generation;
  GenerateResult result{.reason = StopReason::kMaxTokens, .text = {}, .tokens = {}};
  if (options.max_tokens == 0) return result;
  TextOut out(options.stop_strings, on_text);
  std::vector<float> without_ends;
  const bool largest = sampler.TakesLargest() && !options.ignore_eos;
  TokenId next = -1;  // chosen by the backend, if it can be
  auto start = Clock::now();
  while (true) {
    // Embeddings may be padded beyond the vocabulary.
    logits = logits.first(std::min(logits.size(), static_cast<size_t>(tokenizer.size())));
    if (options.ignore_eos) {
      without_ends.assign(logits.begin(), logits.end());
      for (const TokenId end : ends)
        without_ends[static_cast<size_t>(end)] = -std::numeric_limits<float>::infinity();
      logits = without_ends;
    }
    const TokenId token = next >= 0 ? next : sampler.Sample(logits);
    sampler.Accept(token);
    if (!result.tokens.empty())
      result.decode_seconds += std::chrono::duration<double>(Clock::now() - start).count();
    result.tokens.push_back(token);
    if (!options.ignore_eos && std::ranges::find(ends, token) != ends.end()) {
      result.reason = StopReason::kEndOfGeneration;
      break;
    }
    const bool go_on = out.Push(tokenizer.TokenBytes(token, options.show_special));
    if (out.stopped()) {
      result.reason = StopReason::kStopString;
      break;
    }
    if (!go_on) {
      result.reason = StopReason::kCancelled;
      break;
    }
    if (static_cast<int64_t>(result.tokens.size()) == options.max_tokens) break;
    if (session.length() >= session.options().context) {
      result.reason = StopReason::kContextFull;
      break;
    }
    start = Clock::now();
    if (!largest) {
      logits = session.Append({&token, 1});
      continue;
    }
    next = session.AppendGreedy({&token, 1}, static_cast<int>(tokenizer.size()));
    if (next < 0) ThrowNoToken(static_cast<size_t>(tokenizer.size()));
  }
  out.Finish();
  result.text = std::move(out.text());
  return result;
}

}  // namespace tq
