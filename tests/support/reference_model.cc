// SPDX-License-Identifier: Apache-2.0
#include "tests/support/reference_model.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "turboquant/gguf/dequantize.h"

namespace tq::test {
namespace {

double Dot(const double* a, const double* b, size_t n) {
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

void AddTo(std::vector<double>& x, const std::vector<double>& y) {
  for (size_t i = 0; i < x.size(); ++i) x[i] += y[i];
}

double Silu(double x) { return x / (1 + std::exp(-x)); }

double GeluTanh(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
}

}  // namespace

ReferenceModel::ReferenceModel(const GgufFile& file) {
  architecture_ = file.GetString("general.architecture");
  const std::string prefix = architecture_ + ".";
  for (const auto& [key, value] : file.metadata()) {
    if (!key.starts_with(prefix)) continue;
    const std::string name = key.substr(prefix.size());
    if (const auto* number = std::get_if<uint64_t>(&value)) {
      numbers_[name] = static_cast<double>(*number);
    } else if (const auto* real = std::get_if<double>(&value)) {
      numbers_[name] = *real;
    }
  }
  scaling_ = file.GetString(prefix + "rope.scaling.type", "none");
  for (const GgufTensor& tensor : file.tensors()) {
    Matrix& matrix = tensors_[tensor.name];
    matrix.rows = tensor.rows();
    matrix.cols = tensor.cols();
    matrix.values.resize(tensor.num_values());
    DequantizeRow(tensor.format, tensor.data.data(), static_cast<int64_t>(tensor.num_values()),
                  matrix.values.data());
  }
  layers_ = static_cast<size_t>(numbers_.at("block_count"));
  q_heads_ = static_cast<size_t>(numbers_.at("attention.head_count"));
  kv_heads_ = static_cast<size_t>(numbers_.at("attention.head_count_kv"));
  head_dim_ = static_cast<size_t>(numbers_.at("attention.key_length"));
  eps_ = numbers_.at("attention.layer_norm_rms_epsilon");
}

const ReferenceModel::Matrix& ReferenceModel::Get(const std::string& name) const {
  return tensors_.at(name);
}

double ReferenceModel::Number(const std::string& key, double fallback) const {
  const auto found = numbers_.find(key);
  return found == numbers_.end() ? fallback : found->second;
}

ReferenceModel::Vector ReferenceModel::Multiply(const std::string& name, const Vector& x) const {
  const Matrix& w = Get(name + ".weight");
  Vector out(w.rows);
  for (size_t r = 0; r < w.rows; ++r) {
    for (size_t c = 0; c < w.cols; ++c) out[r] += w.values[r * w.cols + c] * x[c];
  }
  if (Has(name + ".bias")) {
    const Matrix& bias = Get(name + ".bias");
    for (size_t r = 0; r < w.rows; ++r) out[r] += bias.values[r];
  }
  return out;
}

ReferenceModel::Vector ReferenceModel::Norm(const std::string& name, const Vector& x) const {
  const Matrix& weight = Get(name + ".weight");
  const auto n = static_cast<double>(x.size());
  const double scale = 1 / std::sqrt(Dot(x.data(), x.data(), x.size()) / n + eps_);
  Vector out(x.size());
  for (size_t i = 0; i < x.size(); ++i) out[i] = x[i] * scale * weight.values[i];
  return out;
}

void ReferenceModel::NormHeads(const std::string& name, Vector& heads) const {
  if (!Has(name + ".weight")) return;
  for (size_t at = 0; at < heads.size(); at += head_dim_) {
    const auto begin = heads.begin() + static_cast<std::ptrdiff_t>(at);
    const Vector head = Norm(name, Vector(begin, begin + static_cast<std::ptrdiff_t>(head_dim_)));
    std::copy(head.begin(), head.end(), begin);
  }
}

// Every head is rotated pair by pair: pair i by position * base^(-2 i / n), after the file's
// scaling rule. Local layers of gemma3 have a base of their own and no rule.
void ReferenceModel::Rotate(Vector& heads, int64_t position, bool local) const {
  const auto n =
      static_cast<size_t>(Number("rope.dimension_count", static_cast<double>(head_dim_)));
  const double base = local ? Number("rope.freq_base_swa", 1e4) : Number("rope.freq_base", 1e4);
  const double factor = Number("rope.scaling.factor", 1);
  for (size_t i = 0; i < n / 2; ++i) {
    double frequency = std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(n));
    double magnitude = 1;
    if (!local && scaling_ == "linear") frequency /= factor;
    if (!local && scaling_ == "yarn") {
      // Dims that turn often within the original context keep their frequency, those that turn less
      // than once are interpolated; the borders between them are rounded to whole pairs.
      const double context = Number("rope.scaling.original_context_length", 0);
      const auto pair_that_turns = [&](double turns) {
        return static_cast<double>(n) * std::log(context / (2 * std::numbers::pi * turns)) /
               (2 * std::log(base));
      };
      const double first = std::max(0.0, std::floor(pair_that_turns(32)));
      const double last = std::min(static_cast<double>(n) - 1, std::ceil(pair_that_turns(1)));
      const double slow = std::clamp((static_cast<double>(i) - first) / (last - first), 0.0, 1.0);
      frequency *= (1 - slow) + slow / factor;
      magnitude = 1 + 0.1 * std::log(factor);
    }
    if (!local && Has("rope_freqs.weight")) frequency /= Get("rope_freqs.weight").values[i];
    const double angle = frequency * static_cast<double>(position);
    const double c = std::cos(angle) * magnitude, s = std::sin(angle) * magnitude;
    const bool adjacent = architecture_ == "llama";
    for (size_t at = 0; at < heads.size(); at += head_dim_) {
      double& x = heads[at + (adjacent ? 2 * i : i)];
      double& y = heads[at + (adjacent ? 2 * i + 1 : i + n / 2)];
      const double turned = x * c - y * s;
      y = x * s + y * c;
      x = turned;
    }
  }
}

// The query at `position` sees keys up to its own, in a window the newest `window` of these.
ReferenceModel::Vector ReferenceModel::Attend(const LayerTrace& cache, size_t position,
                                              int window) const {
  const size_t first = window > 0 && position + 1 > static_cast<size_t>(window)
                           ? position + 1 - static_cast<size_t>(window)
                           : 0;
  Vector out(q_heads_ * head_dim_);
  for (size_t head = 0; head < q_heads_; ++head) {
    const size_t shared = head / (q_heads_ / kv_heads_);
    const double* q = &cache.q[position][head * head_dim_];
    Vector weights;
    double most = -HUGE_VAL, sum = 0;
    for (size_t t = first; t <= position; ++t) {
      weights.push_back(Dot(q, &cache.k[t][shared * head_dim_], head_dim_) /
                        std::sqrt(static_cast<double>(head_dim_)));
      most = std::max(most, weights.back());
    }
    for (double& weight : weights) sum += weight = std::exp(weight - most);
    for (size_t t = first; t <= position; ++t) {
      for (size_t d = 0; d < head_dim_; ++d) {
        out[head * head_dim_ + d] += weights[t - first] / sum * cache.v[t][shared * head_dim_ + d];
      }
    }
  }
  return out;
}

ReferenceModel::Result ReferenceModel::Run(std::span<const int32_t> tokens) const {
  const bool gemma = architecture_ == "gemma3";
  const Matrix& table = Get("token_embd.weight");
  Rows stream;  // [T][E]
  for (const int32_t token : tokens) {
    const float* row = &table.values[static_cast<size_t>(token) * table.cols];
    stream.emplace_back(row, row + table.cols);
    if (gemma) {
      for (double& x : stream.back()) x *= std::sqrt(static_cast<double>(table.cols));
    }
  }
  Result result;
  for (size_t layer = 0; layer < layers_; ++layer) {
    const std::string block = "blk." + std::to_string(layer) + ".";
    const bool local = gemma && layer % 6 != 5;
    const int window = local ? static_cast<int>(Number("attention.sliding_window", 0)) : 0;
    LayerTrace& trace = result.layers.emplace_back();
    for (size_t t = 0; t < tokens.size(); ++t) {
      Vector& x = stream[t];
      const Vector normed = Norm(block + "attn_norm", x);
      trace.q.push_back(Multiply(block + "attn_q", normed));
      trace.k.push_back(Multiply(block + "attn_k", normed));
      trace.v.push_back(Multiply(block + "attn_v", normed));
      NormHeads(block + "attn_q_norm", trace.q[t]);
      NormHeads(block + "attn_k_norm", trace.k[t]);
      Rotate(trace.q[t], static_cast<int64_t>(t), local);
      Rotate(trace.k[t], static_cast<int64_t>(t), local);
      Vector attended = Multiply(block + "attn_output", Attend(trace, t, window));
      if (gemma) attended = Norm(block + "post_attention_norm", attended);
      AddTo(x, attended);

      const Vector fed = Norm(block + "ffn_norm", x);
      Vector gate = Multiply(block + "ffn_gate", fed);
      const Vector up = Multiply(block + "ffn_up", fed);
      for (size_t i = 0; i < gate.size(); ++i) {
        gate[i] = (gemma ? GeluTanh(gate[i]) : Silu(gate[i])) * up[i];
      }
      Vector down = Multiply(block + "ffn_down", gate);
      if (gemma) down = Norm(block + "post_ffw_norm", down);
      AddTo(x, down);
    }
  }
  for (const Vector& x : stream) {
    result.logits.push_back(
        Multiply(Has("output.weight") ? "output" : "token_embd", Norm("output_norm", x)));
  }
  return result;
}

}  // namespace tq::test
