// SPDX-License-Identifier: Apache-2.0
// Byte-level BPE (`gpt2` in model files): pieces are spelt in the byte alphabet and merged by rank.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "turboquant/gguf/gguf_file.h"
#include "turboquant/text/pretokenizer.h"
#include "turboquant/text/special_splitter.h"
#include "turboquant/text/tokenizer.h"
#include "turboquant/text/vocabulary.h"

namespace tq {

class ByteBpeTokenizer : public Tokenizer {
 public:
  explicit ByteBpeTokenizer(const GgufFile& file);

  std::vector<TokenId> Encode(std::string_view text, bool add_special,
                              bool parse_special) const override;
  std::string TokenBytes(TokenId id, bool special) const override;
  int size() const override { return vocabulary_.size(); }
  const SpecialTokens& special() const override { return vocabulary_.special(); }
  std::string TokenText(TokenId id) const override;
  std::string description() const override;

 private:
  struct Rule {
    int32_t rank;
    TokenId merged;
  };
  void ReadMerges(const GgufFile& file);
  void EncodePiece(std::string_view piece, std::vector<TokenId>& out) const;

  Pretokenizer pretokenizer_;
  Vocabulary vocabulary_;
  SpecialSplitter splitter_;
  std::array<TokenId, 256> byte_tokens_;      // -1: not in the vocabulary
  std::unordered_map<uint64_t, Rule> rules_;  // by left id << 32 | right id
};

}  // namespace tq
