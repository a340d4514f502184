// SPDX-License-Identifier: Apache-2.0
#include "turboquant/model/synthetic.h"

#include <array>
#include <cmath>

#include "turboquant/base/error.h"
#include "turboquant/model/rope_scaling.h"
#include "turboquant/ops/packed_layouts.h"

namespace tq {
namespace {

struct Shape {
  std::string_view name;
  std::string_view size_label;
  int layers, embedding, feed_forward, q_heads, kv_heads, head_dim;
  double rope_factor;
};

constexpr std::array kShapes = {
    Shape{"llama-8b", "8B", 32, 4096, 14336, 32, 8, 128, 8},
    Shape{"llama-1b", "1B", 16, 2048, 8192, 32, 8, 64, 32},
};
constexpr int kVocabulary = 128256;
constexpr int kContext = 131072;
constexpr double kRopeBase = 500000;

class Maker {
 public:
  Maker(const ModelSpec& spec, Backend& backend) : spec_(spec), backend_(backend) {}

  Weights Make() {
    Weights weights;
    weights.embedding = Matrix(spec_.vocabulary, spec_.embedding);
    if (!spec_.tied_output) weights.logits = Matrix(spec_.vocabulary, spec_.embedding);
    weights.final_norm = Ones(spec_.embedding);
    const int q = spec_.q_heads * spec_.head_dim, kv = spec_.kv_heads * spec_.head_dim;
    for (int i = 0; i < spec_.num_layers; ++i) {
      LayerWeights& layer = weights.layers.emplace_back();
      layer.attention_norm = Ones(spec_.embedding);
      layer.feed_forward_norm = Ones(spec_.embedding);
      layer.qkv.parts.push_back(Matrix(q + 2 * kv, spec_.embedding));
      layer.output.parts.push_back(Matrix(spec_.embedding, q));
      layer.gate_up.parts.push_back(Matrix(2 * spec_.feed_forward, spec_.embedding));
      layer.down.parts.push_back(Matrix(spec_.embedding, spec_.feed_forward));
    }
    return weights;
  }

 private:
  std::unique_ptr<const PackedWeight> Matrix(int rows, int cols) {
    return backend_.RandomWeight(rows, cols, ++seed_);
  }
  std::unique_ptr<Buffer> Ones(int size) {
    const std::vector<float> ones(static_cast<size_t>(size), 1.0f);
    auto buffer = backend_.Allocate(ones.size());
    backend_.Write(ones.data(), buffer->data(), ones.size());
    return buffer;
  }

  const ModelSpec& spec_;
  Backend& backend_;
  uint64_t seed_ = 0;
};

}  // namespace

std::string SyntheticModelNames() {
  std::string names;
  for (const Shape& shape : kShapes)
    names += fmt::format("{}{}", names.empty() ? "" : ", ", shape.name);
  return names;
}

ModelSpec SyntheticModelSpec(std::string_view name) {
  for (const Shape& shape : kShapes) {
    if (shape.name != name) continue;
    ModelSpec spec;
    spec.architecture = "llama";
    spec.name = fmt::format("synthetic {}", name);
    spec.size_label = shape.size_label;
    spec.num_layers = shape.layers;
    spec.embedding = shape.embedding;
    spec.feed_forward = shape.feed_forward;
    spec.q_heads = shape.q_heads;
    spec.kv_heads = shape.kv_heads;
    spec.head_dim = shape.head_dim;
    spec.vocabulary = kVocabulary;
    spec.context = kContext;
    spec.attention_scale = static_cast<float>(1.0 / std::sqrt(shape.head_dim));
    spec.tied_output = shape.layers == 16;  // as Llama-3.2-1B
    spec.layers.resize(static_cast<size_t>(shape.layers));
    RopeTable rope;
    rope.rotary_dim = shape.head_dim;
    rope.frequencies = RopeFrequencies(kRopeBase, shape.head_dim);
    DivideFrequencies(rope.frequencies,
                      Llama3Factors(rope.frequencies, {.factor = shape.rope_factor}));
    spec.ropes.push_back(std::move(rope));
    return spec;
  }
  Throw(ErrorCode::kInvalidArgument, "there is no synthetic model '{}'; these are: {}", name,
        SyntheticModelNames());
}

uint64_t SyntheticWeightBytes(const ModelSpec& spec) {
  const int64_t q = int64_t{spec.q_heads} * spec.head_dim,
                kv = int64_t{spec.kv_heads} * spec.head_dim;
  const int64_t e = spec.embedding, f = spec.feed_forward;
  const int64_t layer = (q + 2 * kv) * e + e * q + 3 * e * f;
  const int64_t values = spec.num_layers * layer + (spec.tied_output ? 1 : 2) * spec.vocabulary * e;
  return static_cast<uint64_t>(values) * 9 / 16;
}

Weights MakeSyntheticWeights(const ModelSpec& spec, Backend& backend) {
  return Maker(spec, backend).Make();
}

}  // namespace tq
