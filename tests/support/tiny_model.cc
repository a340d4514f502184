// SPDX-License-Identifier: Apache-2.0
#include "tests/support/tiny_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

#include "tests/ops/random_blocks.h"
#include "tests/support/tiny_vocabulary.h"
#include "turboquant/base/hash.h"
#include "turboquant/base/random.h"
#include "turboquant/gguf/dequantize.h"
#include "turboquant/gguf/quantize.h"

namespace tq::test {
namespace {

constexpr const char* kChatMl =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] "
    "+ '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ "
    "'<|im_start|>assistant\\n' }}{% endif %}";

using Metadata = std::map<std::string, GgufOutValue>;

uint32_t Uint(int value) { return static_cast<uint32_t>(value); }

// Byte-level BPE: 256 bytes, some merges of English, three special tokens.
int AddVocabulary(const TinyModel& model, Metadata& metadata) {
  testing_support::TokenTable table;
  for (int byte = 0; byte < 256; ++byte) {
    table.Add(SpellByte(static_cast<uint8_t>(byte)), TokenType::kNormal);
  }
  const std::string space = SpellByte(' ');
  std::vector<std::string> merges;
  for (const auto& [left, right] :
       std::initializer_list<std::pair<std::string, std::string>>{{space, "t"},
                                                                  {"h", "e"},
                                                                  {space, "a"},
                                                                  {"i", "n"},
                                                                  {"r", "e"},
                                                                  {"o", "n"},
                                                                  {space + "t", "he"},
                                                                  {"e", "r"},
                                                                  {space, "s"},
                                                                  {"a", "t"},
                                                                  {"n", "d"},
                                                                  {"in", "g"},
                                                                  {space + "a", "nd"},
                                                                  {"o", "r"},
                                                                  {"l", "l"},
                                                                  {space, "o"},
                                                                  {space + "o", "f"}}) {
    merges.push_back(left + " " + right);
    table.Add(left + right, TokenType::kNormal);
  }
  const auto special = [&](const char* text) {
    return static_cast<uint32_t>(table.Add(text, TokenType::kControl));
  };
  metadata["tokenizer.ggml.bos_token_id"] = special("<|endoftext|>");
  special("<|im_start|>");
  metadata["tokenizer.ggml.eos_token_id"] = special("<|im_end|>");
  metadata["tokenizer.ggml.model"] = std::string("gpt2");
  metadata["tokenizer.ggml.pre"] = std::string(model.architecture == "llama" ? "smollm" : "qwen2");
  metadata["tokenizer.ggml.tokens"] = table.texts;
  metadata["tokenizer.ggml.token_type"] = table.types;
  metadata["tokenizer.ggml.merges"] = merges;
  if (model.chat_template) metadata["tokenizer.chat_template"] = std::string(kChatMl);
  return static_cast<int>(table.texts.size());
}

void AddSizes(const TinyModel& model, Metadata& metadata) {
  const auto set = [&](const char* key, GgufOutValue value) {
    metadata[model.architecture + "." + key] = std::move(value);
  };
  set("block_count", Uint(model.layers));
  set("context_length", Uint(model.context));
  set("embedding_length", Uint(model.embedding));
  set("feed_forward_length", Uint(model.feed_forward));
  set("attention.head_count", Uint(model.q_heads));
  set("attention.head_count_kv", Uint(model.kv_heads));
  set("attention.key_length", Uint(model.head_dim));
  set("attention.value_length", Uint(model.head_dim));
  set("attention.layer_norm_rms_epsilon", 1e-6f);
  if (model.rotary_dim > 0) set("rope.dimension_count", Uint(model.rotary_dim));
  set("rope.freq_base", model.architecture == "gemma3" ? 1e5f : 1e4f);
  if (model.sliding_window > 0) set("attention.sliding_window", Uint(model.sliding_window));
  if (model.rope == TinyRope::kLinear) {
    set("rope.scaling.type", std::string("linear"));
    set("rope.scaling.factor", 2.5f);
  } else if (model.rope == TinyRope::kYarn) {
    set("rope.scaling.type", std::string("yarn"));
    set("rope.scaling.factor", 4.0f);
    set("rope.scaling.original_context_length", 256u);
  }
}

// The divisors of Llama 3.1 for an original context of 128 tokens.
std::vector<float> RopeDivisors(int rotary_dim) {
  constexpr double kFactor = 8, kLow = 1, kHigh = 4, kContext = 128;
  std::vector<float> divisors;
  for (int i = 0; i < rotary_dim / 2; ++i) {
    const double turns = kContext * std::pow(1e4, -2.0 * i / rotary_dim) / (2 * std::numbers::pi);
    double divisor = 1;
    if (turns < kLow) {
      divisor = kFactor;
    } else if (turns < kHigh) {
      const double smooth = (turns - kLow) / (kHigh - kLow);
      divisor = 1 / ((1 - smooth) / kFactor + smooth);
    }
    divisors.push_back(static_cast<float>(divisor));
  }
  return divisors;
}

// Adds tensors with values that depend on the seed and the tensor's name alone.
class TensorMaker {
 public:
  TensorMaker(const TinyModel& model, GgufWriter& writer) : model_(model), writer_(writer) {}

  // cols = K. Entries of size gain / sqrt(K), so that outputs are of the size of inputs.
  void Matrix(const std::string& name, BlockFormat format, int rows, int cols, double gain = 1) {
    if (model_.omit.contains(name)) return;
    const std::vector<uint64_t> shape =
        ShapeOf(name, {static_cast<uint64_t>(cols), static_cast<uint64_t>(rows)});
    const double size = gain / std::sqrt(static_cast<double>(cols));
    if (CanQuantize(format)) {
      writer_.AddTensor(name, format, shape, Gaussian(name, shape, 0, size));
    } else {
      writer_.AddTensor(name, format, shape, RandomBlocks(name, format, shape, size));
    }
  }

  void Vector(const std::string& name, int n, double mean, double deviation) {
    if (model_.omit.contains(name)) return;
    const std::vector<uint64_t> shape = ShapeOf(name, {static_cast<uint64_t>(n)});
    writer_.AddTensor(name, BlockFormat::kF32, shape, Gaussian(name, shape, mean, deviation));
  }

  void Values(const std::string& name, const std::vector<float>& values) {
    if (model_.omit.contains(name)) return;
    const std::vector<uint64_t> shape = ShapeOf(name, {values.size()});
    std::vector<float> all(Count(shape), 1.0f);
    std::copy_n(values.begin(), std::min(all.size(), values.size()), all.begin());
    writer_.AddTensor(name, BlockFormat::kF32, shape, all);
  }

 private:
  static size_t Count(const std::vector<uint64_t>& shape) {
    size_t count = 1;
    for (const uint64_t size : shape) count *= size;
    return count;
  }
  std::vector<uint64_t> ShapeOf(const std::string& name, std::vector<uint64_t> right) const {
    const auto other = model_.shapes.find(name);
    return other == model_.shapes.end() ? right : other->second;
  }
  uint64_t SeedOf(const std::string& name) const {
    return Hash64(std::as_bytes(std::span(name)), model_.seed);
  }

  std::vector<float> Gaussian(const std::string& name, const std::vector<uint64_t>& shape,
                              double mean, double deviation) const {
    Random random(SeedOf(name));
    std::vector<float> values(Count(shape));
    for (float& value : values) {
      value = static_cast<float>(mean + deviation * random.Gaussian());
    }
    return values;
  }

  std::vector<std::byte> RandomBlocks(const std::string& name, BlockFormat format,
                                      const std::vector<uint64_t>& shape, double size) const {
    const auto cols = static_cast<int64_t>(shape[0]);
    const auto values = static_cast<int64_t>(Count(shape));
    const RandomTensor plain = MakeRandomTensor(format, values / cols, cols, SeedOf(name));
    std::vector<float> decoded(Count(shape));
    DequantizeRow(format, plain.bytes.data(), values, decoded.data());
    double squares = 0;
    for (const float value : decoded) squares += double{value} * value;
    const double magnitude = size / std::sqrt(squares / static_cast<double>(values));
    return MakeRandomTensor(format, values / cols, cols, SeedOf(name), magnitude).bytes;
  }

  const TinyModel& model_;
  GgufWriter& writer_;
};

void AddLayer(const TinyModel& model, int layer, TensorMaker& make) {
  const int embedding = model.embedding, q = model.q_heads * model.head_dim,
            kv = model.kv_heads * model.head_dim;
  const auto name = [&](const char* tensor) { return fmt::format("blk.{}.{}", layer, tensor); };
  make.Vector(name("attn_norm.weight"), embedding, 1, 0.2);
  make.Matrix(name("attn_q.weight"), model.matrices, q, embedding, 1.5);
  make.Matrix(name("attn_k.weight"), model.matrices, kv, embedding, 1.5);
  make.Matrix(name("attn_v.weight"), model.matrices, kv, embedding);
  if (model.architecture == "qwen2") {
    make.Vector(name("attn_q.bias"), q, 0, 0.5);
    make.Vector(name("attn_k.bias"), kv, 0, model.key_bias);
    make.Vector(name("attn_v.bias"), kv, 0, 0.5);
  }
  if (model.architecture == "qwen3" || model.architecture == "gemma3") {
    make.Vector(name("attn_q_norm.weight"), model.head_dim, 1.4, 0.2);
    make.Vector(name("attn_k_norm.weight"), model.head_dim, 1.4, 0.2);
  }
  make.Matrix(name("attn_output.weight"), model.matrices, embedding, q);
  make.Vector(name("ffn_norm.weight"), embedding, 1, 0.2);
  make.Matrix(name("ffn_gate.weight"), model.matrices, model.feed_forward, embedding, 1.5);
  make.Matrix(name("ffn_up.weight"), model.matrices, model.feed_forward, embedding);
  make.Matrix(name("ffn_down.weight"), model.matrices, embedding, model.feed_forward);
  if (model.architecture == "gemma3") {
    make.Vector(name("post_attention_norm.weight"), embedding, 1, 0.2);
    make.Vector(name("post_ffw_norm.weight"), embedding, 1, 0.2);
  }
}

}  // namespace

TinyModel TinyModelOf(const std::string& architecture) {
  TinyModel model;
  model.architecture = architecture;
  if (architecture == "gemma3") {
    model.layers = 7;
    model.head_dim = 96;
    model.sliding_window = 32;
  }
  return model;
}

GgufWriter MakeTinyModel(const TinyModel& model) {
  Metadata metadata;
  metadata["general.architecture"] = model.architecture;
  metadata["general.name"] = "tiny " + model.architecture;
  AddSizes(model, metadata);
  const int vocabulary = AddVocabulary(model, metadata);
  for (const auto& [key, value] : model.metadata) metadata[key] = value;
  for (const std::string& key : model.omit) metadata.erase(key);

  GgufWriter writer;
  for (const auto& [key, value] : metadata) writer.Set(key, value);
  TensorMaker make(model, writer);
  make.Matrix("token_embd.weight", model.embeddings, vocabulary, model.embedding, 2);
  for (int layer = 0; layer < model.layers; ++layer) AddLayer(model, layer, make);
  make.Vector("output_norm.weight", model.embedding, 1, 0.2);
  if (!model.tied_output) {
    make.Matrix("output.weight", model.embeddings, vocabulary, model.embedding, 2);
  }
  if (model.rope == TinyRope::kLlama3) {
    make.Values("rope_freqs.weight",
                RopeDivisors(model.rotary_dim > 0 ? model.rotary_dim : model.head_dim));
  }
  return writer;
}

std::filesystem::path WriteTinyModel(const TinyModel& model, const std::filesystem::path& path) {
  MakeTinyModel(model).Write(path);
  return path;
}

}  // namespace tq::test
