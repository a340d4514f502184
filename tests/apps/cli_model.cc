// SPDX-License-Identifier: Apache-2.0
#include "tests/apps/cli_model.h"

#include <fstream>

#include "tests/apps/cli_process.h"
#include "tests/support/tiny_vocabulary.h"
#include "turboquant/base/random.h"
#include "turboquant/gguf/gguf_file.h"

namespace tq::test {
namespace {

constexpr uint32_t kLayers = 2, kHeads = 2, kKvHeads = 1, kHeadDim = 64, kFeedForward = 256;
constexpr uint64_t kEmbedding = kHeads * kHeadDim, kVocabulary = 256 + 5 + 2;

std::vector<float> Gaussian(Random& random, uint64_t count, double sigma) {
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(sigma * random.Gaussian());
  return values;
}

// Only letters and the blank have a row that is not zero: the text stays readable and valid UTF-8.
std::vector<float> OutputRows(Random& random) {
  std::vector<float> rows(kVocabulary * kEmbedding, 0.0f);
  for (uint64_t token = 0; token < 256; ++token) {
    if (token != ' ' && (token < 'a' || token > 'z')) continue;
    const std::vector<float> row = Gaussian(random, kEmbedding, 1.0);
    std::copy(row.begin(), row.end(), rows.begin() + static_cast<ptrdiff_t>(token * kEmbedding));
  }
  return rows;
}

void WriteTinyModel(const std::string& path) {
  GgufWriter writer;
  writer.SetString("general.architecture", "llama");
  writer.SetString("general.name", "tiny");
  writer.Set("llama.block_count", kLayers);
  writer.Set("llama.context_length", 2048u);
  writer.Set("llama.embedding_length", static_cast<uint32_t>(kEmbedding));
  writer.Set("llama.feed_forward_length", kFeedForward);
  writer.Set("llama.attention.head_count", kHeads);
  writer.Set("llama.attention.head_count_kv", kKvHeads);
  writer.Set("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  testing_support::SetTinyBpe(writer);

  Random random(3);
  const auto matrix = [&](const std::string& name, uint64_t rows, uint64_t cols) {
    writer.AddTensor(name, BlockFormat::kQ8_0, {cols, rows},
                     Gaussian(random, rows * cols, 1.5 / std::sqrt(static_cast<double>(cols))));
  };
  const auto norm = [&](const std::string& name) {
    writer.AddTensor(name, BlockFormat::kF32, {kEmbedding}, std::vector<float>(kEmbedding, 1.0f));
  };
  writer.AddTensor("token_embd.weight", BlockFormat::kF32, {kEmbedding, kVocabulary},
                   Gaussian(random, kVocabulary * kEmbedding, 1.0));
  writer.AddTensor("output.weight", BlockFormat::kF32, {kEmbedding, kVocabulary},
                   OutputRows(random));
  norm("output_norm.weight");
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    const std::string prefix = fmt::format("blk.{}.", layer);
    norm(prefix + "attn_norm.weight");
    norm(prefix + "ffn_norm.weight");
    matrix(prefix + "attn_q.weight", kEmbedding, kEmbedding);
    matrix(prefix + "attn_k.weight", kKvHeads * kHeadDim, kEmbedding);
    matrix(prefix + "attn_v.weight", kKvHeads * kHeadDim, kEmbedding);
    matrix(prefix + "attn_output.weight", kEmbedding, kEmbedding);
    matrix(prefix + "ffn_gate.weight", kFeedForward, kEmbedding);
    matrix(prefix + "ffn_up.weight", kFeedForward, kEmbedding);
    matrix(prefix + "ffn_down.weight", kEmbedding, kFeedForward);
  }
  writer.Write(path);
}

}  // namespace

const std::string& TinyModelFile() {
  static const std::string file = [] {
    std::string path = (CliFolder() / "tiny.gguf").string();
    WriteTinyModel(path);
    return path;
  }();
  return file;
}

const std::string& LongTextFile() {
  static const std::string file = [] {
    std::string path = (CliFolder() / "long.txt").string();
    std::ofstream out(path);
    const char* const words[] = {"the ", "cat ", "saw ", "a ", "hello ", "world ", "too ", "well "};
    Random random(5);
    for (int i = 0; i < 1000; ++i) out << words[random.Next() % 8];
    return path;
  }();
  return file;
}

}  // namespace tq::test
