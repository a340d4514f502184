// SPDX-License-Identifier: Apache-2.0
#include "turboquant/text/vocabulary.h"

#include <algorithm>
#include <array>
#include <bit>

#include "turboquant/base/error.h"
#include "turboquant/base/hash.h"

namespace tq {
namespace {

// Tokens that end a reply by what they are called: files often name only one of them as EOS.
constexpr std::array<std::string_view, 12> kEndings = {
    "<|im_end|>",      "<|endoftext|>",   "<|eot_id|>",    "<|eom_id|>",
    "<|end_of_text|>", "<|end|>",         "<end_of_turn>", "</s>",
    "<|end_of_turn|>", "<|endofprompt|>", "<|return|>",    "<EOT>",
};

template <typename T>
void CheckLength(const std::vector<T>& values, size_t tokens, std::string_view key) {
  if (values.size() != tokens) {
    Throw(ErrorCode::kCorruptFile, "{} has {} entries for {} tokens: the model file is damaged",
          key, values.size(), tokens);
  }
}

TokenType TypeFromFile(int64_t value, size_t token) {
  if (value < static_cast<int64_t>(TokenType::kNormal) ||
      value > static_cast<int64_t>(TokenType::kByte)) {
    Throw(ErrorCode::kCorruptFile,
          "tokenizer.ggml.token_type: {} for token {} is none of 1 - 6: the model file is damaged",
          value, token);
  }
  return static_cast<TokenType>(value);
}

}  // namespace

Vocabulary::Vocabulary(const GgufFile& file, const SpecialDefaults& defaults)
    : tokens_(file.GetStrings("tokenizer.ggml.tokens")) {
  if (tokens_.empty()) {
    Throw(ErrorCode::kCorruptFile, "tokenizer.ggml.tokens is empty: the model file is damaged");
  }
  types_.assign(tokens_.size(), TokenType::kNormal);
  if (file.Has("tokenizer.ggml.token_type")) {
    const std::vector<int64_t> types = file.GetInts("tokenizer.ggml.token_type");
    CheckLength(types, tokens_.size(), "tokenizer.ggml.token_type");
    for (size_t i = 0; i < types.size(); ++i) types_[i] = TypeFromFile(types[i], i);
  }
  if (file.Has("tokenizer.ggml.scores")) {
    const std::vector<double> scores = file.GetFloats("tokenizer.ggml.scores");
    CheckLength(scores, tokens_.size(), "tokenizer.ggml.scores");
    scores_.assign(scores.begin(), scores.end());
    const auto nan = std::find_if(scores.begin(), scores.end(), [](double s) { return s != s; });
    if (nan != scores.end()) {
      Throw(ErrorCode::kCorruptFile,
            "tokenizer.ggml.scores: entry {} is not a number: the model file is damaged",
            nan - scores.begin());
    }
  }
  // Not a map: its nodes took 12 MiB more for a vocabulary of 262144.
  slots_.assign(std::bit_ceil(2 * tokens_.size()), -1);
  for (TokenId id = 0; id < size(); ++id) {
    TokenId& slot = slots_[SlotOf(Text(id))];
    if (slot < 0) slot = id;
  }
  ReadSpecial(file, defaults);
  CollectEndOfGeneration();
}

TokenId Vocabulary::Find(std::string_view text) const { return slots_[SlotOf(text)]; }

size_t Vocabulary::SlotOf(std::string_view text) const {
  const size_t mask = slots_.size() - 1;
  size_t slot = Hash64(std::as_bytes(std::span(text))) & mask;
  while (slots_[slot] >= 0 && Text(slots_[slot]) != text) slot = (slot + 1) & mask;
  return slot;
}

void Vocabulary::ReadSpecial(const GgufFile& file, const SpecialDefaults& defaults) {
  const auto id = [&](std::string_view key, TokenId fallback) {
    if (!file.Has(key)) return Has(fallback) ? fallback : -1;
    const uint64_t value = file.GetUint(key);
    if (value == 0xFFFFFFFFu) return -1;  // how some converters write "none"
    if (value >= tokens_.size()) {
      Throw(ErrorCode::kCorruptFile, "{} is {}, but there are {} tokens: the model file is damaged",
            key, value, tokens_.size());
    }
    return static_cast<TokenId>(value);
  };
  special_.bos = id("tokenizer.ggml.bos_token_id", defaults.bos);
  special_.eos = id("tokenizer.ggml.eos_token_id", defaults.eos);
  special_.eot = id("tokenizer.ggml.eot_token_id", -1);
  special_.unknown = id("tokenizer.ggml.unknown_token_id", defaults.unknown);
  special_.pad = id("tokenizer.ggml.padding_token_id", -1);
  special_.add_bos =
      file.GetBool("tokenizer.ggml.add_bos_token", defaults.add_bos) && special_.bos >= 0;
  special_.add_eos = file.GetBool("tokenizer.ggml.add_eos_token", false) && special_.eos >= 0;
}

void Vocabulary::CollectEndOfGeneration() {
  std::vector<TokenId>& ends = special_.end_of_generation;
  ends = {special_.eos, special_.eot};
  for (const std::string_view name : kEndings) {
    const TokenId id = Find(name);
    if (id >= 0 && Type(id) != TokenType::kNormal) ends.push_back(id);
  }
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
  std::erase(ends, -1);
}

}  // namespace tq
