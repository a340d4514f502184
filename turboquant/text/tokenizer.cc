// SPDX-License-Identifier: Apache-2.0
#include "turboquant/text/tokenizer.h"

#include <fmt/ranges.h>

#include <array>

#include "turboquant/base/error.h"
#include "turboquant/text/byte_bpe_tokenizer.h"
#include "turboquant/text/sentencepiece_tokenizer.h"

namespace tq {
namespace {

template <typename T>
std::unique_ptr<const Tokenizer> Make(const GgufFile& file) {
  return std::make_unique<const T>(file);
}

// By `tokenizer.ggml.model`.
struct TokenizerInfo {
  std::string_view name;
  std::unique_ptr<const Tokenizer> (*make)(const GgufFile&);
};
constexpr std::array<TokenizerInfo, 2> kTokenizers = {{
    {"gpt2", &Make<ByteBpeTokenizer>},
    {"llama", &Make<SentencePieceTokenizer>},
}};

}  // namespace

std::unique_ptr<const Tokenizer> Tokenizer::FromGguf(const GgufFile& file) {
  const std::string model = file.GetString("tokenizer.ggml.model");
  std::vector<std::string_view> names;
  for (const TokenizerInfo& info : kTokenizers) {
    if (info.name == model) return info.make(file);
    names.push_back(info.name);
  }
  Throw(ErrorCode::kUnsupported,
        "the model's tokenizer '{}' (tokenizer.ggml.model) is not supported; there are: {}", model,
        fmt::join(names, ", "));
}

std::string Tokenizer::Decode(std::span<const TokenId> ids, bool special) const {
  std::string out;
  for (const TokenId id : ids) out += TokenBytes(id, special);
  return out;
}

}  // namespace tq
