// SPDX-License-Identifier: Apache-2.0
#include "turboquant/model/weights.h"

namespace tq {
namespace {

class Loader {
 public:
  Loader(const GgufFile& file, const ModelSpec& spec, Backend& backend,
         const std::function<void(uint64_t, uint64_t)>& progress)
      : file_(file), spec_(spec), backend_(backend), progress_(progress) {
    for (const GgufTensor& tensor : file.tensors()) total_ += tensor.data.size();
  }

  Weights Load() {
    Weights weights;
    weights.embedding = Matrix("token_embd.weight", spec_.vocabulary, spec_.embedding);
    if (!spec_.tied_output)
      weights.logits = Matrix("output.weight", spec_.vocabulary, spec_.embedding);
    weights.final_norm = Vector("output_norm.weight", spec_.embedding);
    for (int layer = 0; layer < spec_.num_layers; ++layer)
      weights.layers.push_back(LoadLayer(layer));
    if (progress_) progress_(total_, total_);
    return weights;
  }

 private:
  struct Part {
    std::string_view name;
    int rows;
  };

  LayerWeights LoadLayer(int layer) {
    const int embedding = spec_.embedding, q = spec_.q_heads * spec_.head_dim,
              kv = spec_.kv_heads * spec_.head_dim;
    prefix_ = fmt::format("blk.{}.", layer);
    LayerWeights weights;
    weights.attention_norm = Vector(prefix_ + "attn_norm.weight", embedding);
    weights.feed_forward_norm = Vector(prefix_ + "ffn_norm.weight", embedding);
    if (spec_.post_norms) {
      weights.post_attention_norm = Vector(prefix_ + "post_attention_norm.weight", embedding);
      weights.post_feed_forward_norm = Vector(prefix_ + "post_ffw_norm.weight", embedding);
    }
    if (spec_.qk_norm) {
      weights.q_norm = Vector(prefix_ + "attn_q_norm.weight", spec_.head_dim);
      weights.k_norm = Vector(prefix_ + "attn_k_norm.weight", spec_.head_dim);
    }
    weights.qkv = Stack({{"attn_q", q}, {"attn_k", kv}, {"attn_v", kv}}, embedding);
    weights.output = Stack({{"attn_output", embedding}}, q);
    weights.gate_up =
        Stack({{"ffn_gate", spec_.feed_forward}, {"ffn_up", spec_.feed_forward}}, embedding);
    weights.down = Stack({{"ffn_down", embedding}}, spec_.feed_forward);
    return weights;
  }

  const GgufTensor& Find(const std::string& name, int rows, int cols) const {
    const GgufTensor& tensor = file_.Tensor(name);
    if (tensor.rows() != static_cast<uint64_t>(rows) ||
        tensor.cols() != static_cast<uint64_t>(cols)) {
      Throw(ErrorCode::kCorruptFile,
            "tensor '{}' has shape [{}, {}], but the model's metadata asks for [{}, {}]", name,
            tensor.rows(), tensor.cols(), rows, cols);
    }
    return tensor;
  }

  void Done(const GgufTensor& tensor) {
    tensor.Release(0, tensor.data.size());
    done_ += tensor.data.size();
    if (progress_) progress_(done_, total_);
  }

  std::unique_ptr<const PackedWeight> Matrix(const std::string& name, int rows, int cols) {
    const GgufTensor* tensor = &Find(name, rows, cols);
    auto weight = backend_.LoadWeight({&tensor, 1});
    Done(*tensor);
    return weight;
  }

  std::unique_ptr<Buffer> Vector(const std::string& name, int size) {
    const GgufTensor* tensor = &Find(name, 1, size);
    auto vector = backend_.LoadVector({&tensor, 1});
    Done(*tensor);
    return vector;
  }

  // One stacked matrix if the tensors' layouts agree (Q4_K_M files mix formats), else one part
  // each. Biases follow suit.
  Projection Stack(std::span<const Part> parts, int cols) {
    std::vector<const GgufTensor*> matrices, biases;
    for (const Part& part : parts) {
      matrices.push_back(&Find(fmt::format("{}{}.weight", prefix_, part.name), part.rows, cols));
      const std::string bias = fmt::format("{}{}.bias", prefix_, part.name);
      if (file_.FindTensor(bias) != nullptr) biases.push_back(&Find(bias, 1, part.rows));
    }
    if (!biases.empty() && biases.size() != matrices.size()) {
      Throw(ErrorCode::kCorruptFile, "'{}' and its siblings: only {} of {} have a bias",
            biases.front()->name, biases.size(), matrices.size());
    }
    Projection projection;
    auto stacked = backend_.LoadWeight(matrices);
    if (stacked != nullptr) {
      projection.parts.push_back(std::move(stacked));
      if (!biases.empty()) projection.biases.push_back(backend_.LoadVector(biases));
    } else {
      for (size_t i = 0; i < matrices.size(); ++i) {
        projection.parts.push_back(backend_.LoadWeight({&matrices[i], 1}));
        if (!biases.empty()) projection.biases.push_back(backend_.LoadVector({&biases[i], 1}));
      }
    }
    for (const GgufTensor* tensor : matrices) Done(*tensor);
    for (const GgufTensor* tensor : biases) Done(*tensor);
    return projection;
  }
  Projection Stack(std::initializer_list<Part> parts, int cols) {
    return Stack(std::span(parts.begin(), parts.size()), cols);
  }

  const GgufFile& file_;
  const ModelSpec& spec_;
  Backend& backend_;
  const std::function<void(uint64_t, uint64_t)>& progress_;
  std::string prefix_;  // of the layer being loaded
  uint64_t done_ = 0;
  uint64_t total_ = 0;
};

uint64_t BytesOf(const std::unique_ptr<Buffer>& buffer) {
  return buffer ? buffer->size() * sizeof(float) : 0;
}

uint64_t BytesOf(const Projection& projection) {
  uint64_t bytes = 0;
  for (const auto& part : projection.parts) bytes += part->bytes();
  for (const auto& bias : projection.biases) bytes += BytesOf(bias);
  return bytes;
}

}  // namespace

uint64_t Weights::bytes() const {
  uint64_t bytes = embedding->bytes() + (logits ? logits->bytes() : 0) + BytesOf(final_norm);
  for (const LayerWeights& layer : layers) {
    for (const auto* norm :
         {&layer.attention_norm, &layer.feed_forward_norm, &layer.post_attention_norm,
          &layer.post_feed_forward_norm, &layer.q_norm, &layer.k_norm}) {
      bytes += BytesOf(*norm);
    }
    for (const Projection* projection : {&layer.qkv, &layer.output, &layer.gate_up, &layer.down})
      bytes += BytesOf(*projection);
  }
  return bytes;
}

Weights LoadWeights(const GgufFile& file, const ModelSpec& spec, Backend& backend,
                    const std::function<void(uint64_t, uint64_t)>& progress) {
  return Loader(file, spec, backend, progress).Load();
}

}  // namespace tq
