// SPDX-License-Identifier: Apache-2.0
// Text <-> token ids, as the model file says. Immutable, thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "turboquant/gguf/gguf_file.h"

namespace tq {

using TokenId = int32_t;

struct SpecialTokens {  // -1 if the vocabulary has none
  TokenId bos = -1, eos = -1, eot = -1, unknown = -1, pad = -1;
  bool add_bos = false;  // put BOS before a text / in place of a chunk's first token
  bool add_eos = false;
  std::vector<TokenId> end_of_generation;  // every token that ends a reply (eos, eot, <|im_end|>,
                                           // <end_of_turn>, ...)
};

class Tokenizer {
 public:
  // Throws kUnsupported naming the tokenizer model or pre-tokenizer and listing those there are;
  // kCorruptFile.
  static std::unique_ptr<const Tokenizer> FromGguf(const GgufFile& file);
  virtual ~Tokenizer() = default;

  // add_special: BOS / EOS as the file says. parse_special: special tokens written in the text
  // become their ids. Invalid UTF-8 is encoded byte by byte (byte-level BPE) or by byte tokens
  // (SentencePiece); never an error.
  virtual std::vector<TokenId> Encode(std::string_view text, bool add_special,
                                      bool parse_special) const = 0;

  // The bytes of one token; may be part of a UTF-8 character. Control tokens give "" unless
  // `special`.
  virtual std::string TokenBytes(TokenId id, bool special = false) const = 0;
  std::string Decode(std::span<const TokenId> ids, bool special = false) const;

  virtual int size() const = 0;
  virtual const SpecialTokens& special() const = 0;
  virtual std::string TokenText(
      TokenId id) const = 0;  // as the vocabulary spells it (for `tokenize` and `inspect`)
  virtual std::string description() const = 0;  // "byte-level BPE (qwen2), 151936 tokens"
};

// Holds back bytes of an unfinished UTF-8 character while text is streamed.
class Utf8Stream {
 public:
  std::string Push(std::string_view bytes);  // complete characters so far
  std::string Flush();                       // what is left, invalid bytes as U+FFFD
 private:
  std::string pending_;
};

}  // namespace tq
