// SPDX-License-Identifier: Apache-2.0
// The models that tests are run on: complete, the same every time.
#include "tests/support/tiny_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temp_folder.h"
#include "turboquant/model/model_spec.h"
#include "turboquant/text/chat_template.h"
#include "turboquant/text/tokenizer.h"

namespace tq {
namespace {

TEST(TinyModel, SameOptionsGiveTheSameBytes) {
  test::TinyModel model = test::TinyModelOf("qwen2");
  model.matrices = BlockFormat::kQ4_0;
  const auto bytes = test::MakeTinyModel(model).Serialize();
  EXPECT_EQ(bytes, test::MakeTinyModel(model).Serialize());
  model.seed = 2;
  EXPECT_NE(bytes, test::MakeTinyModel(model).Serialize());
}

TEST(TinyModel, TextLayerLoadsIt) {
  const testing_support::TempFolder folder;
  const GgufFile file =
      GgufFile::Open(test::WriteTinyModel(test::TinyModelOf("llama"), folder.path() / "tiny.gguf"));
  const auto tokenizer = Tokenizer::FromGguf(file);
  const std::string text = "the thing on the hill, and nothing of it";
  const std::vector<TokenId> ids = tokenizer->Encode(text, true, true);
  EXPECT_LT(ids.size(), text.size());  // merges are used
  EXPECT_EQ(tokenizer->Decode(ids), text);
  EXPECT_EQ(tokenizer->size(), ReadModelSpec(file).vocabulary);
  EXPECT_THAT(tokenizer->special().end_of_generation,
              ::testing::Contains(tokenizer->special().eos));
  EXPECT_EQ(ChatTemplate::FromGguf(file).name(), "chatml");
}

}  // namespace
}  // namespace tq
