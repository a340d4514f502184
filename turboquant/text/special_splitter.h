// SPDX-License-Identifier: Apache-2.0
// Cuts a text where special tokens are written in it.
#pragma once

#include <array>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "turboquant/text/vocabulary.h"

namespace tq {

struct TextPart {
  std::string_view text;
  TokenId special = -1;  // the token that `text` spells, or -1: ordinary text
};

class SpecialSplitter {
 public:
  // `vocabulary` must outlive the splitter.
  explicit SpecialSplitter(const Vocabulary& vocabulary);

  // User-defined tokens are always recognised, control tokens only with parse_special. Where
  // matches overlap, the longer one wins, then the earlier one. Parts in order, none empty.
  std::vector<TextPart> Split(std::string_view text, bool parse_special) const;

 private:
  struct Match {
    size_t begin;
    size_t length;
    TokenId id;
  };
  std::vector<Match> FindMatches(std::string_view text, bool parse_special) const;

  const Vocabulary& vocabulary_;
  std::unordered_map<std::string_view, TokenId> tokens_;
  std::array<std::vector<size_t>, 256>
      lengths_;  // of the tokens that begin with a byte, longest first
};

}  // namespace tq
