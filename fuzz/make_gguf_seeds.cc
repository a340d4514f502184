// SPDX-License-Identifier: Apache-2.0
// Writes the seeds of gguf_fuzz.cc: complete models of one or two kilobytes, and one that is only
// metadata. Usage: make_gguf_seeds FOLDER
#include <cstdio>
#include <filesystem>

#include "tests/support/tiny_model.h"
#include "turboquant/base/error.h"

namespace {

using tq::test::TinyModel;

// As small as a complete model can be; the vocabulary is too small for more than a few letters.
TinyModel Smallest(const std::string& architecture, tq::BlockFormat format, int width) {
  TinyModel model;
  model.architecture = architecture;
  model.layers = 1;
  model.embedding = model.feed_forward = width;
  model.q_heads = model.kv_heads = 1;
  model.head_dim = width;
  model.matrices = model.embeddings = format;
  model.sliding_window = architecture == "gemma3" ? 2 : 0;
  model.rope = tq::test::TinyRope::kYarn;
  model.chat_template = false;
  model.metadata["tokenizer.ggml.tokens"] = std::vector<std::string>{"h", "e", "he", "<|im_end|>"};
  model.metadata["tokenizer.ggml.token_type"] = std::vector<int32_t>{1, 1, 1, 3};
  model.metadata["tokenizer.ggml.merges"] = std::vector<std::string>{"h e"};
  model.metadata["tokenizer.ggml.bos_token_id"] = 3u;
  model.metadata["tokenizer.ggml.eos_token_id"] = 3u;
  model.shapes["token_embd.weight"] = {static_cast<uint64_t>(width), 4};
  return model;
}

// Every type that a value can have.
tq::GgufWriter EveryValue() {
  tq::GgufWriter writer(64, 2);
  writer.Set("u8", uint8_t{1});
  writer.Set("i8", int8_t{-1});
  writer.Set("u16", uint16_t{2});
  writer.Set("i16", int16_t{-2});
  writer.Set("u32", 3u);
  writer.Set("i32", -3);
  writer.Set("u64", uint64_t{4});
  writer.Set("i64", int64_t{-4});
  writer.Set("f32", 0.5f);
  writer.Set("f64", 0.25);
  writer.Set("bool", true);
  writer.Set("text", std::string("text"));
  writer.Set("texts", std::vector<std::string>{"", "a"});
  writer.Set("i32s", std::vector<int32_t>{1, -1});
  writer.Set("u32s", std::vector<uint32_t>{1, 2});
  writer.Set("f32s", std::vector<float>{1, 2});
  return writer;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: make_gguf_seeds FOLDER\n", stderr);
    return 2;
  }
  try {
    const std::filesystem::path folder = argv[1];
    std::filesystem::create_directories(folder);
    EveryValue().Write(folder / "values");
    using tq::BlockFormat;
    WriteTinyModel(Smallest("llama", BlockFormat::kF16, 8), folder / "llama");
    WriteTinyModel(Smallest("qwen2", BlockFormat::kF32, 4), folder / "qwen2");
    WriteTinyModel(Smallest("qwen3", BlockFormat::kBF16, 8), folder / "qwen3");
    WriteTinyModel(Smallest("gemma3", BlockFormat::kQ4_0, 32), folder / "gemma3");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "make_gguf_seeds: %s\n", error.what());
    return 1;
  }
  return 0;
}
