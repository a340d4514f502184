// SPDX-License-Identifier: Apache-2.0
// A token per byte, and one that begins a text.
#pragma once

#include <string>
#include <vector>

#include "turboquant/text/tokenizer.h"

namespace tq::lab {

class ByteTokenizer : public Tokenizer {
 public:
  static constexpr TokenId kBos = 256;

  explicit ByteTokenizer(bool add_bos = false) {
    special_.bos = kBos;
    special_.add_bos = add_bos;
  }
  std::vector<TokenId> Encode(std::string_view text, bool add_special, bool) const override {
    std::vector<TokenId> ids;
    if (add_special && special_.add_bos) ids.push_back(kBos);
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  }
  std::string TokenBytes(TokenId id, bool) const override {
    return id < 256 ? std::string(1, static_cast<char>(id)) : "";
  }
  int size() const override { return 257; }
  const SpecialTokens& special() const override { return special_; }
  std::string TokenText(TokenId id) const override { return TokenBytes(id, false); }
  std::string description() const override { return "bytes"; }

 private:
  SpecialTokens special_;
};

}  // namespace tq::lab
