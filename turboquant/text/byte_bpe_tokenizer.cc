// SPDX-License-Identifier: Apache-2.0
#include "turboquant/text/byte_bpe_tokenizer.h"

#include <fmt/format.h>

#include "turboquant/base/error.h"
#include "turboquant/text/byte_alphabet.h"
#include "turboquant/text/symbol_chain.h"

namespace tq {
namespace {

constexpr std::string_view kMergesKey = "tokenizer.ggml.merges";

uint64_t PairKey(TokenId left, TokenId right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

}  // namespace

ByteBpeTokenizer::ByteBpeTokenizer(const GgufFile& file)
    : pretokenizer_(Pretokenizer::FromName(file.GetString("tokenizer.ggml.pre"))),
      vocabulary_(file, {.add_bos = pretokenizer_.add_bos()}),
      splitter_(vocabulary_) {
  for (int byte = 0; byte < 256; ++byte) {
    byte_tokens_[static_cast<size_t>(byte)] =
        vocabulary_.Find(SpellByte(static_cast<uint8_t>(byte)));
  }
  ReadMerges(file);
}

void ByteBpeTokenizer::ReadMerges(const GgufFile& file) {
  const std::vector<std::string>& merges = file.GetStrings(kMergesKey);
  rules_.reserve(merges.size());
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const std::string& rule = merges[rank];
    // The left side may itself begin with a space in some files: never empty.
    const size_t space = rule.find(' ', 1);
    if (space == std::string::npos || space + 1 == rule.size()) {
      Throw(
          ErrorCode::kCorruptFile,
          "{}: entry {} ('{}') is not two symbols with a space between: the model file is damaged",
          kMergesKey, rank, rule);
    }
    const std::string left = rule.substr(0, space);
    const std::string right = rule.substr(space + 1);
    const TokenId a = vocabulary_.Find(left);
    const TokenId b = vocabulary_.Find(right);
    const TokenId merged = vocabulary_.Find(left + right);
    // A rule outside the vocabulary could only lead to symbols that are no tokens.
    if (a < 0 || b < 0 || merged < 0) continue;
    rules_.try_emplace(PairKey(a, b), Rule{static_cast<int32_t>(rank), merged});
  }
}

void ByteBpeTokenizer::EncodePiece(std::string_view piece, std::vector<TokenId>& out) const {
  if (pretokenizer_.whole_pieces_first()) {
    if (const TokenId whole = vocabulary_.Find(SpellBytes(piece)); whole >= 0) {
      out.push_back(whole);
      return;
    }
  }
  std::vector<TokenId> symbols;
  symbols.reserve(piece.size());
  for (const char byte : piece) {
    TokenId token = byte_tokens_[static_cast<uint8_t>(byte)];
    if (token < 0) token = special().unknown;  // only in a vocabulary without all 256 bytes
    if (token >= 0) symbols.push_back(token);
  }
  MergeSymbols<int32_t>(symbols, [&](TokenId left, TokenId right) -> std::optional<Merge<int32_t>> {
    const auto found = rules_.find(PairKey(left, right));
    if (found == rules_.end()) return std::nullopt;
    return Merge<int32_t>{found->second.rank, found->second.merged};
  });
  out.insert(out.end(), symbols.begin(), symbols.end());
}

std::vector<TokenId> ByteBpeTokenizer::Encode(std::string_view text, bool add_special,
                                              bool parse_special) const {
  std::vector<TokenId> out;
  if (add_special && special().add_bos) out.push_back(special().bos);
  for (const TextPart& part : splitter_.Split(text, parse_special)) {
    if (part.special >= 0) {
      out.push_back(part.special);
      continue;
    }
    for (const std::string_view piece : pretokenizer_.Split(part.text)) EncodePiece(piece, out);
  }
  if (add_special && special().add_eos) out.push_back(special().eos);
  return out;
}

std::string ByteBpeTokenizer::TokenBytes(TokenId id, bool show_special) const {
  if (!vocabulary_.Has(id)) return {};
  if (vocabulary_.IsHidden(id)) return show_special ? vocabulary_.Text(id) : std::string();
  if (vocabulary_.Type(id) == TokenType::kUserDefined) return vocabulary_.Text(id);
  return UnspellBytes(vocabulary_.Text(id));
}

std::string ByteBpeTokenizer::TokenText(TokenId id) const {
  return vocabulary_.Has(id) ? vocabulary_.Text(id) : std::string();
}

std::string ByteBpeTokenizer::description() const {
  return fmt::format("byte-level BPE ({}), {} tokens", pretokenizer_.name(), size());
}

}  // namespace tq
