// SPDX-License-Identifier: Apache-2.0
// The token table of a model file, whatever the tokenizer.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "turboquant/gguf/gguf_file.h"
#include "turboquant/text/tokenizer.h"

namespace tq {

// As `tokenizer.ggml.token_type` numbers them.
enum class TokenType { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };

// What a file that does not say means; depends on the tokenizer.
struct SpecialDefaults {
  TokenId bos = -1, eos = -1, unknown = -1;
  bool add_bos = false;
};

class Vocabulary {
 public:
  // Throws kCorruptFile if arrays differ in length, an id is not in the table or there are no
  // tokens.
  Vocabulary(const GgufFile& file, const SpecialDefaults& defaults);

  int size() const { return static_cast<int>(tokens_.size()); }
  bool Has(TokenId id) const { return id >= 0 && id < size(); }
  const std::string& Text(TokenId id) const { return tokens_[static_cast<size_t>(id)]; }
  TokenType Type(TokenId id) const { return types_[static_cast<size_t>(id)]; }
  float Score(TokenId id) const { return scores_.empty() ? 0 : scores_[static_cast<size_t>(id)]; }
  const SpecialTokens& special() const { return special_; }

  // The id of an exact spelling (the lowest, if several share it), or -1.
  TokenId Find(std::string_view text) const;
  // A control or unknown token: shown only on request.
  bool IsHidden(TokenId id) const {
    return Type(id) == TokenType::kControl || Type(id) == TokenType::kUnknown;
  }

 private:
  // The slot of a spelling, or the free one where it belongs.
  size_t SlotOf(std::string_view text) const;
  void ReadSpecial(const GgufFile& file, const SpecialDefaults& defaults);
  void CollectEndOfGeneration();

  std::vector<std::string> tokens_;
  std::vector<TokenType> types_;
  std::vector<float> scores_;   // empty or [V]
  std::vector<TokenId> slots_;  // open addressing by spelling; -1: free
  SpecialTokens special_;
};

}  // namespace tq
