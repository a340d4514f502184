// SPDX-License-Identifier: Apache-2.0
// SentencePiece (`llama` in model files; Kudo and Richardson 2018): characters are joined while the
// result is in the vocabulary, best score first; what remains unknown becomes byte tokens.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "turboquant/gguf/gguf_file.h"
#include "turboquant/text/special_splitter.h"
#include "turboquant/text/tokenizer.h"
#include "turboquant/text/vocabulary.h"

namespace tq {

class SentencePieceTokenizer : public Tokenizer {
 public:
  explicit SentencePieceTokenizer(const GgufFile& file);

  std::vector<TokenId> Encode(std::string_view text, bool add_special,
                              bool parse_special) const override;
  std::string TokenBytes(TokenId id, bool special) const override;
  int size() const override { return vocabulary_.size(); }
  const SpecialTokens& special() const override { return vocabulary_.special(); }
  std::string TokenText(TokenId id) const override;
  std::string description() const override;

 private:
  void EncodePart(std::string_view escaped, std::vector<TokenId>& out) const;
  void EncodeBytes(std::string_view bytes, std::vector<TokenId>& out) const;

  Vocabulary vocabulary_;
  SpecialSplitter splitter_;
  std::array<TokenId, 256> byte_tokens_;  // -1: not in the vocabulary
  std::vector<int> byte_of_token_;        // [V], -1: not a byte token
  bool add_space_prefix_;
};

}  // namespace tq
