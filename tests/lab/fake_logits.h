// SPDX-License-Identifier: Apache-2.0
// A made-up language model: logits that depend on the token and its position only, plus noise of a
// given size.
#pragma once

#include <vector>

#include "lab/logits_source.h"
#include "turboquant/base/random.h"

namespace tq::lab {

class FakeLogits : public LogitsSource {
 public:
  FakeLogits(int vocabulary, double noise, uint64_t noise_seed = 1)
      : vocabulary_(vocabulary), noise_(noise), noise_seed_(noise_seed) {}

  int vocabulary() const override { return vocabulary_; }
  void Clear() override {
    position_ = 0;
    ++cleared_;
  }
  void Feed(std::span<const TokenId> tokens, int begin, int end, LogitsSink& sink) override {
    constexpr int kBlock = 7;  // rows come in blocks, whatever was asked for
    most_rows_ = std::max(most_rows_, end - begin);
    for (int at = begin; at < end; at += kBlock) {
      const int rows = std::min(kBlock, end - at);
      std::vector<float> logits;
      for (int r = 0; r < rows; ++r) {
        const std::vector<float> row = Row(tokens[static_cast<size_t>(at + r)], position_ + at + r);
        logits.insert(logits.end(), row.begin(), row.end());
      }
      sink.Rows(0, at, MatrixView<const float>(logits.data(), rows, vocabulary_));
    }
    fed_.insert(fed_.end(), tokens.begin(), tokens.end());
    position_ += static_cast<int>(tokens.size());
  }

  void FeedAside(std::span<const TokenId> tokens, int begin, int end, LogitsSink& sink) override {
    const int before = position_;
    const size_t fed = fed_.size();
    Feed(tokens, begin, end, sink);
    position_ = before;
    fed_.resize(fed);
  }

  std::vector<float> Row(TokenId token, int position) const {
    Random base(static_cast<uint64_t>(token) * 1000003 + static_cast<uint64_t>(position));
    Random noise(noise_seed_ * 7919 + static_cast<uint64_t>(token) * 1000003 +
                 static_cast<uint64_t>(position));
    std::vector<float> row(static_cast<size_t>(vocabulary_));
    for (float& x : row) x = static_cast<float>(2 * base.Gaussian() + noise_ * noise.Gaussian());
    return row;
  }

  const std::vector<TokenId>& fed() const { return fed_; }
  int cleared() const { return cleared_; }
  int most_rows() const { return most_rows_; }

 private:
  int vocabulary_;
  double noise_;
  uint64_t noise_seed_;
  int position_ = 0;
  int cleared_ = 0;
  int most_rows_ = 0;
  std::vector<TokenId> fed_;
};

// Tokens 0, 1, 2, ... in some order; windows over them.
inline TextWindows FakeWindows(int vocabulary, int context, int count, bool add_bos = false) {
  Random random(11);
  std::vector<TokenId> tokens(static_cast<size_t>(context * count + 3));
  for (TokenId& token : tokens)
    token = static_cast<TokenId>(random.Next() % static_cast<uint64_t>(vocabulary));
  SpecialTokens special;
  special.bos = 1;
  special.add_bos = add_bos;
  return MakeWindows(std::move(tokens), special, context, 0, 1);
}

}  // namespace tq::lab
