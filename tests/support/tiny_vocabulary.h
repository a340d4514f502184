// SPDX-License-Identifier: Apache-2.0
// Small vocabularies for tests and fuzzing: all 256 bytes, a few merges, special tokens.
#pragma once

#include <fmt/format.h>

#include <string>
#include <vector>

#include "turboquant/gguf/gguf_writer.h"
#include "turboquant/text/byte_alphabet.h"
#include "turboquant/text/vocabulary.h"

namespace tq::testing_support {

struct TokenTable {
  std::vector<std::string> texts;
  std::vector<int32_t> types;
  std::vector<float> scores;

  int32_t Add(std::string text, TokenType type, float score = 0) {
    texts.push_back(std::move(text));
    types.push_back(static_cast<int32_t>(type));
    scores.push_back(score);
    return static_cast<int32_t>(texts.size()) - 1;
  }
  void WriteTo(GgufWriter& writer) const {
    writer.Set("tokenizer.ggml.tokens", texts);
    writer.Set("tokenizer.ggml.token_type", types);
  }
};

// 256 bytes; merges h+e, l+l, he+ll, o+o, Ġ+w; <|end|> (256 + 5, control), <tool> (user-defined).
inline void SetTinyBpe(GgufWriter& writer, const std::string& pretokenizer = "gpt-2") {
  TokenTable table;
  for (int byte = 0; byte < 256; ++byte) {
    table.Add(SpellByte(static_cast<uint8_t>(byte)), TokenType::kNormal);
  }
  const std::string space = SpellByte(' ');
  std::vector<std::string> merges;
  const std::pair<std::string, std::string> rules[] = {
      {"h", "e"}, {"l", "l"}, {"he", "ll"}, {"o", "o"}, {space, "w"}};
  for (const auto& [left, right] : rules) {
    merges.push_back(left + " " + right);
    table.Add(left + right, TokenType::kNormal);
  }
  const int32_t end = table.Add("<|end|>", TokenType::kControl);
  table.Add("<tool>", TokenType::kUserDefined);
  table.WriteTo(writer);
  writer.SetString("tokenizer.ggml.model", "gpt2");
  writer.SetString("tokenizer.ggml.pre", pretokenizer);
  writer.Set("tokenizer.ggml.merges", merges);
  writer.Set("tokenizer.ggml.eos_token_id", static_cast<uint32_t>(end));
  writer.Set("tokenizer.ggml.bos_token_id", static_cast<uint32_t>(end));
}

// <unk>, <s>, </s>, 256 byte tokens, letters a - e and the space, "ab" better than "bc".
inline void SetTinySentencePiece(GgufWriter& writer, bool add_space_prefix) {
  TokenTable table;
  table.Add("<unk>", TokenType::kUnknown);
  table.Add("<s>", TokenType::kControl);
  table.Add("</s>", TokenType::kControl);
  for (int byte = 0; byte < 256; ++byte) {
    table.Add(fmt::format("<0x{:02X}>", byte), TokenType::kByte);
  }
  for (const char* letter : {"a", "b", "c", "d", "e", "\u2581"}) {
    table.Add(letter, TokenType::kNormal, -10);
  }
  table.Add("ab", TokenType::kNormal, -1);
  table.Add("bc", TokenType::kNormal, -2);
  table.Add("abc", TokenType::kNormal, -3);
  table.Add("\u2581ab", TokenType::kNormal, -4);
  table.WriteTo(writer);
  writer.SetString("tokenizer.ggml.model", "llama");
  writer.Set("tokenizer.ggml.scores", table.scores);
  writer.Set("tokenizer.ggml.add_space_prefix", add_space_prefix);
}

}  // namespace tq::testing_support
