// SPDX-License-Identifier: Apache-2.0
// Token ids against those of an independent engine (tests/data/tokenize.json) on the real models.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "turboquant/text/tokenizer.h"

namespace tq {
namespace {

struct ModelCase {
  const char* name;  // in tokenize.json
  const char* file;  // in TQ_MODELS
  int64_t wiki_tokens;
};

class TokenizerParity : public testing::TestWithParam<ModelCase> {
 protected:
  void SetUp() override {
    const char* folder = std::getenv("TQ_MODELS");
    if (folder == nullptr) GTEST_SKIP() << "TQ_MODELS does not name the models' folder";
    const auto path = std::filesystem::path(folder) / GetParam().file;
    if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not there";
    tokenizer_ = Tokenizer::FromGguf(GgufFile::Open(path));
  }
  std::unique_ptr<const Tokenizer> tokenizer_;
};

TEST_P(TokenizerParity, EveryRecordMatches) {
  std::ifstream file(TQ_TEST_DATA "/tokenize.json");
  const nlohmann::json records = nlohmann::json::parse(file);
  int seen = 0;
  for (const auto& record : records) {
    if (record["model"] != GetParam().name) continue;
    ++seen;
    const std::string text = record["text"];
    EXPECT_EQ(tokenizer_->Encode(text, true, record["parse_special"]),
              record["ids"].get<std::vector<TokenId>>())
        << "text: " << text << "\nparse_special: " << record["parse_special"];
  }
  EXPECT_EQ(seen, 44);
}

TEST_P(TokenizerParity, WikiTextHasAsManyTokensAndComesBack) {
  const char* folder = std::getenv("TQ_DATA");
  if (folder == nullptr) GTEST_SKIP() << "TQ_DATA does not name the folder of wiki.test.raw";
  std::ifstream file(std::filesystem::path(folder) / "wiki.test.raw", std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  ASSERT_FALSE(text.empty());
  const std::vector<TokenId> ids = tokenizer_->Encode(text, true, false);
  EXPECT_EQ(static_cast<int64_t>(ids.size()), GetParam().wiki_tokens);
  EXPECT_TRUE(tokenizer_->Decode(ids) == text);
}

INSTANTIATE_TEST_SUITE_P(Models, TokenizerParity,
                         testing::Values(ModelCase{"smollm", "smollm2.gguf", 303415},
                                         ModelCase{"qwen2", "qwen2.5-coder-1.5b.gguf", 299078},
                                         ModelCase{"gemma3", "gemma3-270m.gguf", 295216}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace tq
