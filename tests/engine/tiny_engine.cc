// SPDX-License-Identifier: Apache-2.0
#include "tests/engine/tiny_engine.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "tests/support/tiny_vocabulary.h"
#include "turboquant/base/error.h"
#include "turboquant/base/random.h"
#include "turboquant/gguf/gguf_writer.h"

namespace tq::test {
namespace {

constexpr uint32_t kEmbedding = 128, kFeedForward = 192, kHeads = 4, kKvHeads = 2, kHeadDim = 64;
constexpr uint32_t kContext = 8192, kSlidingWindow = 700;
constexpr uint64_t kVocabulary = 288;  // what the tiny tokenizer has, rounded up

class Builder {
 public:
  explicit Builder(const TinyModel& model) : model_(model), random_(model.seed) {}

  void Write(const std::filesystem::path& path) {
    const bool gemma = model_.architecture == "gemma3";
    const uint32_t layers = gemma ? 6 : 2;
    testing_support::SetTinyBpe(writer_);
    writer_.SetString("general.architecture", model_.architecture);
    writer_.SetString("general.name", model_.name);
    Set("block_count", layers);
    Set("context_length", kContext);
    Set("embedding_length", kEmbedding);
    Set("feed_forward_length", kFeedForward);
    Set("attention.head_count", kHeads);
    Set("attention.head_count_kv", kKvHeads);
    Set("attention.key_length", kHeadDim);
    Set("attention.value_length", kHeadDim);
    Set("attention.layer_norm_rms_epsilon", 1e-5f);
    if (gemma) Set("attention.sliding_window", kSlidingWindow);
    Matrix("token_embd.weight", kVocabulary, kEmbedding, 1);
    Matrix("output.weight", kVocabulary, kEmbedding, 3);
    Norm("output_norm.weight", kEmbedding);
    for (uint32_t layer = 0; layer < layers; ++layer) {
      const std::string prefix = fmt::format("blk.{}.", layer);
      Norm(prefix + "attn_norm.weight", kEmbedding);
      Norm(prefix + "ffn_norm.weight", kEmbedding);
      if (gemma) {
        Norm(prefix + "post_attention_norm.weight", kEmbedding);
        Norm(prefix + "post_ffw_norm.weight", kEmbedding);
        Norm(prefix + "attn_q_norm.weight", kHeadDim);
        Norm(prefix + "attn_k_norm.weight", kHeadDim);
      }
      Matrix(prefix + "attn_q.weight", kHeads * kHeadDim, kEmbedding, 1);
      Matrix(prefix + "attn_k.weight", kKvHeads * kHeadDim, kEmbedding, 1);
      Matrix(prefix + "attn_v.weight", kKvHeads * kHeadDim, kEmbedding, 1);
      Matrix(prefix + "attn_output.weight", kEmbedding, kHeads * kHeadDim, 1);
      Matrix(prefix + "ffn_gate.weight", kFeedForward, kEmbedding, 1);
      Matrix(prefix + "ffn_up.weight", kFeedForward, kEmbedding, 1);
      Matrix(prefix + "ffn_down.weight", kEmbedding, kFeedForward, 1);
    }
    writer_.Write(path);
  }

 private:
  void Set(std::string_view key, GgufOutValue value) {
    writer_.Set(fmt::format("{}.{}", model_.architecture, key), std::move(value));
  }
  // Gaussian, so that inputs of size 1 give outputs of size `scale`.
  void Matrix(const std::string& name, uint64_t rows, uint64_t cols, double scale) {
    std::vector<float> values(rows * cols);
    const double sigma =
        name == "token_embd.weight" ? 1 : scale / std::sqrt(static_cast<double>(cols));
    for (float& value : values) value = static_cast<float>(random_.Gaussian() * sigma);
    writer_.AddTensor(name, BlockFormat::kQ8_0, {cols, rows}, values);
  }
  void Norm(const std::string& name, uint64_t size) {
    std::vector<float> values(size);
    for (float& value : values) value = static_cast<float>(0.75 + 0.5 * random_.Uniform());
    writer_.AddTensor(name, BlockFormat::kF32, {size}, values);
  }

  const TinyModel& model_;
  Random random_;
  GgufWriter writer_;
};

}  // namespace

TemporaryFolder::TemporaryFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "tq_engine_XXXXXX").string();
  TQ_CHECK(mkdtemp(name.data()) != nullptr);
  path_ = name;
}
TemporaryFolder::~TemporaryFolder() { std::filesystem::remove_all(path_); }

std::shared_ptr<const Engine> LoadTinyEngine(const TinyModel& model, int threads) {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder / "tiny.gguf";
  Builder(model).Write(path);
  EngineOptions options;
  options.model = path;
  options.backend.threads = threads;
  return Engine::Load(options);
}

SessionOptions ExactOptions(const Engine& engine, std::string_view type_k, std::string_view type_v,
                            int64_t context) {
  SessionOptions options;
  options.cache = MakePolicy(engine, type_k, type_v);
  options.context = context;
  options.prefill = PrefillMode::kExact;
  options.precision = Precision::kPrecise;
  return options;
}

std::vector<TokenId> RandomTokens(const Engine& engine, int64_t count, uint64_t seed) {
  Random random(seed);
  std::vector<TokenId> tokens(static_cast<size_t>(count));
  for (TokenId& token : tokens)
    token = static_cast<TokenId>(random.Next() % static_cast<uint64_t>(engine.tokenizer().size()));
  return tokens;
}

TokenId Greedy(std::span<const float> logits) {
  return static_cast<TokenId>(std::ranges::max_element(logits) - logits.begin());
}

std::vector<Logits> Decode(Session& session, Logits logits, int count) {
  std::vector<Logits> all;
  for (int i = 0; i < count; ++i) {
    const TokenId token = Greedy(logits);
    logits = Append(session, {&token, 1});
    all.push_back(logits);
  }
  return all;
}

double RelativeError(std::span<const float> a, std::span<const float> b) {
  TQ_CHECK(a.size() == b.size());
  double error = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    error += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
    norm += double{b[i]} * b[i];
  }
  return std::sqrt(error / norm);
}

}  // namespace tq::test
