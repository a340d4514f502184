// SPDX-License-Identifier: Apache-2.0
#include "turboquant/text/sentencepiece_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>

#include "turboquant/base/error.h"
#include "turboquant/text/symbol_chain.h"
#include "turboquant/text/utf8.h"

namespace tq {
namespace {

constexpr std::string_view kSpace = "\u2581";  // how the vocabulary writes a space

std::string EscapeSpaces(std::string_view text) {
  std::string out;
  out.reserve(text.size() * 2);
  for (const char c : text) c == ' ' ? out.append(kSpace) : out.append(1, c);
  return out;
}

std::string UnescapeSpaces(std::string text) {
  for (size_t at = text.find(kSpace); at != std::string::npos; at = text.find(kSpace, at + 1)) {
    text.replace(at, kSpace.size(), " ");
  }
  return text;
}

}  // namespace

SentencePieceTokenizer::SentencePieceTokenizer(const GgufFile& file)
    : vocabulary_(file, {.bos = 1, .eos = 2, .unknown = 0, .add_bos = true}),
      splitter_(vocabulary_),
      byte_of_token_(static_cast<size_t>(vocabulary_.size()), -1),
      add_space_prefix_(file.GetBool("tokenizer.ggml.add_space_prefix", true)) {
  if (!file.Has("tokenizer.ggml.scores")) {
    Throw(ErrorCode::kCorruptFile,
          "tokenizer.ggml.scores is missing, which a SentencePiece vocabulary needs: the model "
          "file is damaged");
  }
  for (int byte = 0; byte < 256; ++byte) {
    const TokenId id = vocabulary_.Find(fmt::format("<0x{:02X}>", byte));
    byte_tokens_[static_cast<size_t>(byte)] = id;
    if (id >= 0) byte_of_token_[static_cast<size_t>(id)] = byte;
  }
}

void SentencePieceTokenizer::EncodeBytes(std::string_view bytes, std::vector<TokenId>& out) const {
  for (const char byte : bytes) {
    TokenId token = byte_tokens_[static_cast<uint8_t>(byte)];
    if (token < 0) token = special().unknown;
    if (token >= 0) out.push_back(token);
  }
}

void SentencePieceTokenizer::EncodePart(std::string_view escaped, std::vector<TokenId>& out) const {
  // Characters that are no tokens get numbers behind the vocabulary.
  const int32_t first_unknown = vocabulary_.size();
  std::vector<std::string_view> unknown;
  std::vector<int32_t> symbols;
  for (size_t at = 0; at < escaped.size();) {
    const auto length = static_cast<size_t>(std::max(Utf8Length(escaped.substr(at)), 1));
    const std::string_view character = escaped.substr(at, length);
    TokenId symbol = vocabulary_.Find(character);
    if (symbol < 0) {
      symbol = first_unknown + static_cast<int32_t>(unknown.size());
      unknown.push_back(character);
    }
    symbols.push_back(symbol);
    at += length;
  }
  const auto text = [&](int32_t symbol) -> std::string_view {
    return symbol < first_unknown ? vocabulary_.Text(symbol)
                                  : unknown[static_cast<size_t>(symbol - first_unknown)];
  };
  std::string joined;
  MergeSymbols<float>(symbols, [&](int32_t left, int32_t right) -> std::optional<Merge<float>> {
    joined.assign(text(left)).append(text(right));
    const TokenId id = vocabulary_.Find(joined);
    if (id < 0) return std::nullopt;
    return Merge<float>{-vocabulary_.Score(id), id};
  });
  for (const int32_t symbol : symbols) {
    if (symbol < first_unknown) {
      out.push_back(symbol);
    } else {
      EncodeBytes(text(symbol), out);
    }
  }
}

std::vector<TokenId> SentencePieceTokenizer::Encode(std::string_view text, bool add_special,
                                                    bool parse_special) const {
  std::vector<TokenId> out;
  if (add_special && special().add_bos) out.push_back(special().bos);
  bool at_start = true;  // of the text, or behind a special token
  for (const TextPart& part : splitter_.Split(text, parse_special)) {
    if (part.special >= 0) {
      out.push_back(part.special);
    } else {
      const bool prefix = add_space_prefix_ && at_start;
      EncodePart((prefix ? std::string(kSpace) : std::string()) + EscapeSpaces(part.text), out);
    }
    at_start = part.special >= 0;
  }
  if (add_special && special().add_eos) out.push_back(special().eos);
  return out;
}

std::string SentencePieceTokenizer::TokenBytes(TokenId id, bool show_special) const {
  if (!vocabulary_.Has(id)) return {};
  if (vocabulary_.IsHidden(id)) return show_special ? vocabulary_.Text(id) : std::string();
  const int byte = byte_of_token_[static_cast<size_t>(id)];
  if (byte >= 0) return std::string(1, static_cast<char>(byte));
  return UnescapeSpaces(vocabulary_.Text(id));
}

std::string SentencePieceTokenizer::TokenText(TokenId id) const {
  return vocabulary_.Has(id) ? vocabulary_.Text(id) : std::string();
}

std::string SentencePieceTokenizer::description() const {
  return fmt::format("SentencePiece, {} tokens", size());
}

}  // namespace tq
