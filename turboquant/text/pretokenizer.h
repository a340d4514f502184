// SPDX-License-Identifier: Apache-2.0
// Cuts text into the pieces within which byte-level BPE merges. Hides PCRE2.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace tq {

class Pretokenizer {
 public:
  // By the name a model file gives in `tokenizer.ggml.pre`. Throws kUnsupported listing the names.
  static Pretokenizer FromName(std::string_view name);

  Pretokenizer(Pretokenizer&&) noexcept;
  Pretokenizer& operator=(Pretokenizer&&) noexcept;
  ~Pretokenizer();

  // Pieces in order that cover the text. What no pattern matches, and bytes that are not UTF-8,
  // are pieces of their own.
  std::vector<std::string_view> Split(std::string_view text) const;

  const std::string& name() const { return name_; }
  // A piece that is a token as it stands is not merged up from its bytes.
  bool whole_pieces_first() const { return whole_pieces_first_; }
  bool add_bos() const { return add_bos_; }  // where the file does not say

 private:
  class Pattern;
  Pretokenizer();

  std::string name_;
  bool whole_pieces_first_ = false;
  bool add_bos_ = false;
  std::vector<std::unique_ptr<const Pattern>> patterns_;
};

}  // namespace tq
