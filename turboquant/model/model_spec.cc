// SPDX-License-Identifier: Apache-2.0
#include "turboquant/model/model_spec.h"

#include <cmath>
#include <cstring>

#include "turboquant/model/architectures.h"
#include "turboquant/model/rope_scaling.h"

namespace tq {
namespace {

constexpr uint64_t kMaxVocabulary = 1u << 24;  // as long as arrays may be in gguf/

// Keys "<architecture>.<name>" of one file.
class Metadata {
 public:
  Metadata(const GgufFile& file, std::string_view architecture)
      : file_(file), prefix_(std::string(architecture) + ".") {}

  std::string Key(std::string_view name) const { return prefix_ + std::string(name); }
  bool Has(std::string_view name) const { return file_.Has(Key(name)); }

  // A size within [1, most].
  int Size(std::string_view name, uint64_t most) const {
    return Check(name, file_.GetUint(Key(name)), most);
  }
  int Size(std::string_view name, uint64_t most, uint64_t fallback) const {
    return Check(name, file_.GetUint(Key(name), fallback), most);
  }
  // A size that some files give per layer; only equal ones are run.
  int SizeOfAllLayers(std::string_view name, uint64_t most) const {
    const auto found = file_.metadata().find(Key(name));
    const auto* list = found == file_.metadata().end()
                           ? nullptr
                           : std::get_if<std::vector<int64_t>>(&found->second);
    if (list == nullptr) return Size(name, most);
    for (const int64_t value : *list) {
      if (value != list->front()) {
        Throw(ErrorCode::kUnsupported,
              "'{}' differs from layer to layer ({} and {}): such models are not run", Key(name),
              list->front(), value);
      }
    }
    return Check(name, list->empty() ? 0 : static_cast<uint64_t>(list->front()), most);
  }

  double Positive(std::string_view name, double fallback) const {
    return CheckPositive(name, file_.GetFloat(Key(name), fallback));
  }
  double Positive(std::string_view name) const {
    return CheckPositive(name, file_.GetFloat(Key(name)));
  }
  std::string Text(std::string_view name, std::string_view fallback) const {
    return file_.GetString(Key(name), fallback);
  }

  // A feature that is present but not run.
  void Refuse(std::string_view name, std::string_view what) const {
    const auto found = file_.metadata().find(Key(name));
    if (found == file_.metadata().end()) return;
    const bool zero = std::visit(
        [](const auto& value) {
          if constexpr (std::is_arithmetic_v<std::decay_t<decltype(value)>>) return value == 0;
          return false;
        },
        found->second);
    if (!zero)
      Throw(ErrorCode::kUnsupported, "the model has {} ('{}'): such models are not run", what,
            Key(name));
  }

 private:
  int Check(std::string_view name, uint64_t value, uint64_t most) const {
    if (value < 1 || value > most) {
      Throw(ErrorCode::kCorruptFile, "'{}' is {}: it must be 1 to {}", Key(name), value, most);
    }
    return static_cast<int>(value);
  }
  double CheckPositive(std::string_view name, double value) const {
    if (!(value > 0) || !std::isfinite(value)) {
      Throw(ErrorCode::kCorruptFile, "'{}' is {}: it must be a positive number", Key(name), value);
    }
    return value;
  }

  const GgufFile& file_;
  std::string prefix_;
};

void RefuseWhatIsNotRun(const Metadata& meta) {
  meta.Refuse("attn_logit_softcapping", "a soft cap on attention scores");
  meta.Refuse("final_logit_softcapping", "a soft cap on logits");
  meta.Refuse("expert_count", "experts");
  meta.Refuse("attention.temperature_scale", "temperature scaling of attention");
  meta.Refuse("attention.clamp_kqv", "clamped projections");
}

// Applies the file's scaling rule to a table that has base frequencies.
void ApplyScaling(const Metadata& meta, const GgufFile& file, double base, int context,
                  RopeTable& table) {
  const std::string type =
      meta.Text("rope.scaling.type", meta.Has("rope.scale_linear") ? "linear" : "none");
  if (type == "linear") {
    ScaleLinear(table.frequencies,
                meta.Positive("rope.scaling.factor", meta.Positive("rope.scale_linear", 1)));
  } else if (type == "yarn") {
    YarnParameters yarn;
    yarn.factor = meta.Positive("rope.scaling.factor");
    yarn.original_context = meta.Positive("rope.scaling.original_context_length", context);
    yarn.beta_fast = meta.Positive("rope.scaling.yarn_beta_fast", yarn.beta_fast);
    yarn.beta_slow = meta.Positive("rope.scaling.yarn_beta_slow", yarn.beta_slow);
    yarn.extrapolation = meta.Positive("rope.scaling.yarn_ext_factor", yarn.extrapolation);
    yarn.attention_factor = meta.Positive("rope.scaling.yarn_attn_factor",
                                          meta.Positive("rope.scaling.attn_factor", 1));
    ScaleYarn(table.frequencies, base, yarn);
    table.magnitude = static_cast<float>(YarnMagnitude(yarn));
  } else if (type != "none") {
    Throw(ErrorCode::kUnsupported,
          "RoPE scaling '{}' is not run; these are: none, linear, yarn, and llama3 by "
          "rope_freqs.weight",
          type);
  }
  if (const GgufTensor* factors = file.FindTensor("rope_freqs.weight")) {  // llama3's rule
    if (factors->format != BlockFormat::kF32 || factors->num_values() != table.frequencies.size()) {
      Throw(ErrorCode::kCorruptFile, "'rope_freqs.weight' must hold {} F32 values",
            table.frequencies.size());
    }
    std::vector<float> values(table.frequencies.size());
    std::memcpy(values.data(), factors->data.data(), values.size() * sizeof(float));
    for (const float value : values) {
      if (!(value > 0))
        Throw(ErrorCode::kCorruptFile, "'rope_freqs.weight' holds {}: factors must be positive",
              value);
    }
    DivideFrequencies(table.frequencies, values);
  }
}

std::string SizeLabel(const GgufFile& file) {
  uint64_t parameters = 0;
  for (const GgufTensor& tensor : file.tensors()) parameters += tensor.num_values();
  const auto millions = static_cast<double>(parameters) * 1e-6;
  return millions < 1000 ? fmt::format("{:.0f}M", millions)
                         : fmt::format("{:.1f}B", millions * 1e-3);
}

void ReadRopes(const Metadata& meta, const GgufFile& file, const Architecture& architecture,
               ModelSpec& spec) {
  RopeTable table;
  table.style = architecture.rope_style;
  table.rotary_dim = meta.Size("rope.dimension_count", spec.head_dim, spec.head_dim);
  if (table.rotary_dim % 2 != 0) {
    Throw(ErrorCode::kCorruptFile, "'{}' is {}: it must be even", meta.Key("rope.dimension_count"),
          table.rotary_dim);
  }
  const double base = meta.Positive("rope.freq_base", architecture.local_layers > 0 ? 1e6 : 1e4);
  RopeTable global = table;
  global.frequencies = RopeFrequencies(base, table.rotary_dim);
  ApplyScaling(meta, file, base, spec.context, global);
  spec.ropes.push_back(std::move(global));
  if (architecture.local_layers > 0) {  // local layers have their own base and are never scaled
    table.frequencies = RopeFrequencies(meta.Positive("rope.freq_base_swa", 1e4), table.rotary_dim);
    spec.ropes.push_back(std::move(table));
  }
}

void ReadLayers(const Metadata& meta, const Architecture& architecture, ModelSpec& spec) {
  spec.layers.resize(spec.num_layers);
  if (architecture.local_layers == 0) return;
  const int window = meta.Size("attention.sliding_window", 1u << 30);
  for (int layer = 0; layer < spec.num_layers; ++layer) {
    if ((layer + 1) % (architecture.local_layers + 1) != 0) spec.layers[layer] = {window, 1};
  }
}

}  // namespace

KvGeometry ModelSpec::kv_geometry() const {
  KvGeometry geometry;
  geometry.num_layers = num_layers;
  geometry.kv_heads = kv_heads;
  geometry.head_dim = head_dim;
  for (const LayerSpec& layer : layers) geometry.sliding_window.push_back(layer.sliding_window);
  return geometry;
}

ModelSpec ReadModelSpec(const GgufFile& file) {
  const Architecture& architecture = FindArchitecture(file.GetString("general.architecture"));
  const Metadata meta(file, architecture.name);
  RefuseWhatIsNotRun(meta);

  ModelSpec spec;
  spec.architecture = architecture.name;
  spec.name = file.GetString("general.name", architecture.name);
  spec.size_label = file.GetString("general.size_label", SizeLabel(file));
  spec.num_layers = meta.Size("block_count", 4096);
  spec.embedding = meta.Size("embedding_length", 1u << 20);
  spec.feed_forward = meta.SizeOfAllLayers("feed_forward_length", 1u << 22);
  spec.q_heads = meta.SizeOfAllLayers("attention.head_count", 4096);
  spec.kv_heads = meta.Has("attention.head_count_kv")
                      ? meta.SizeOfAllLayers("attention.head_count_kv", 4096)
                      : spec.q_heads;
  if (spec.q_heads % spec.kv_heads != 0) {
    Throw(ErrorCode::kCorruptFile, "{} query heads cannot share {} key heads", spec.q_heads,
          spec.kv_heads);
  }
  spec.head_dim = meta.Size("attention.key_length", 4096, spec.embedding / spec.q_heads);
  if (meta.Size("attention.value_length", 4096, spec.head_dim) != spec.head_dim) {
    Throw(ErrorCode::kUnsupported, "keys and values of different head dims ({} and {}) are not run",
          spec.head_dim, meta.Size("attention.value_length", 4096));
  }
  spec.context = meta.Size("context_length", 1u << 30);
  const uint64_t vocabulary = file.Tensor("token_embd.weight").rows();
  if (vocabulary > kMaxVocabulary) {
    Throw(ErrorCode::kCorruptFile, "'token_embd.weight' has {} rows: a vocabulary has at most {}",
          vocabulary, kMaxVocabulary);
  }
  spec.vocabulary = static_cast<int>(vocabulary);
  spec.norm_eps = static_cast<float>(meta.Positive("attention.layer_norm_rms_epsilon"));
  spec.activation = architecture.activation;
  spec.qk_norm = architecture.qk_norm;
  spec.post_norms = architecture.post_norms;
  spec.qkv_bias = file.FindTensor("blk.0.attn_q.bias") != nullptr;
  spec.tied_output = file.FindTensor("output.weight") == nullptr;
  if (architecture.scales_embedding)
    spec.embedding_scale = std::sqrt(static_cast<float>(spec.embedding));
  // Gemma 3 27B, alone of its family, scales by the width of a head were the embedding split
  // evenly; its file does not say so, the number of layers does.
  const bool gemma_27b = architecture.name == "gemma3" && spec.num_layers == 62;
  const int scale_dim = gemma_27b ? spec.embedding / spec.q_heads : spec.head_dim;
  spec.attention_scale = static_cast<float>(
      meta.Positive("attention.scale", 1 / std::sqrt(static_cast<double>(scale_dim))));
  ReadRopes(meta, file, architecture, spec);
  ReadLayers(meta, architecture, spec);
  return spec;
}

}  // namespace tq
