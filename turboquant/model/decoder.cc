// SPDX-License-Identifier: Apache-2.0
#include "turboquant/model/decoder.h"

#include <algorithm>

#include "turboquant/base/aligned_buffer.h"
#include "turboquant/model/decoder_scratch.h"
#include "turboquant/model/logits.h"

namespace tq {

struct Decoder::State {
  State(const ModelSpec& spec, const Weights& weights, Backend& backend,
        std::span<const KeyMap> key_maps)
      : spec(spec),
        weights(weights),
        backend(backend),
        key_maps(key_maps),
        scratch(spec, backend),
        logits(spec, weights, backend) {}

  const ModelSpec& spec;
  const Weights& weights;
  Backend& backend;
  std::span<const KeyMap> key_maps;  // [L, G] or empty
  DecoderScratch scratch;
  LogitsHead logits;
  std::vector<AppendRequest> requests;
  std::vector<LinearOut> outs;
  std::vector<EncodeArgs> encodes;
  std::vector<AttentionArgs> calls;
  std::vector<bool> attended_by_observer;  // [spans], of the layer at hand
  AlignedBuffer<float> observed;           // its attention, host

  const KeyMap* KeyMapsOf(int layer) const {
    return key_maps.empty() ? nullptr : &key_maps[static_cast<size_t>(layer * spec.kv_heads)];
  }
  void Check(const StepPlan& plan);
  std::span<const LinearOut> OutsOf(const Projection& projection, MatrixView<float> out);
  void Project(const Projection& projection, MatrixView<const float> x, MatrixView<float> out,
               Precision precision) {
    backend.Linear(x, OutsOf(projection, out), precision);
  }
  void NormHeads(MatrixView<float> qkv, int first_head, int heads, const Buffer& weight);
  void Observe(const StepPlan& plan, const AppendPlan& append, int layer);
  void EncodeAndAttend(const StepPlan& plan, const AppendPlan& append, const KvCache& cache,
                       int layer);
  void MakeHeads(const RowBlock& rows, Precision precision, int layer);
  void Attention(const StepPlan& plan, const AppendPlan& append, const KvCache& cache, int layer);
  void FeedForward(const RowBlock& rows, Precision precision, int layer);
};

namespace {

// Is the step one that decoding makes again and again: a token of each sequence, and nothing else?
bool Repeats(const StepPlan& plan, const AppendPlan& append) {
  return plan.observer == nullptr && append.seal_after_encode.empty() &&
         std::ranges::all_of(append.spans,
                             [](const AppendPlan::Span& span) { return span.tokens == 1; });
}

}  // namespace

Decoder::Decoder(const ModelSpec& spec, const Weights& weights, Backend& backend,
                 std::span<const KeyMap> key_maps)
    : state_(std::make_unique<State>(spec, weights, backend, key_maps)) {
  TQ_CHECK(key_maps.empty() ||
           key_maps.size() == static_cast<size_t>(spec.num_layers) * spec.kv_heads);
}
Decoder::~Decoder() = default;

void Decoder::Forward(const StepPlan& plan, KvCache& cache) {
  State& s = *state_;
  s.Check(plan);
  s.scratch.Begin(plan);
  const AppendPlan append = cache.PlanAppend(s.requests);
  s.scratch.SetPositions(append);

  try {
    s.backend.BeginStep({.cache = cache,
                         .spans = append.spans,
                         .tokens = s.scratch.tokens(),
                         .positions = s.scratch.positions(),
                         .fresh_prompts = plan.prefill == PrefillMode::kFast});
    s.backend.Seal(cache, append.seal_early);
    const auto layers = [&] {
      s.backend.Embed(*s.weights.embedding, s.scratch.tokens(), s.spec.embedding_scale,
                      s.scratch.x());
      s.scratch.ForBlocks([&](const RowBlock& rows) { s.MakeHeads(rows, plan.precision, 0); });
      for (int layer = 0; layer < s.spec.num_layers; ++layer) {
        s.Attention(plan, append, cache, layer);
        s.scratch.ForBlocks([&](const RowBlock& rows) {
          s.FeedForward(rows, plan.precision, layer);
          if (layer + 1 < s.spec.num_layers) {
            s.MakeHeads(rows, plan.precision, layer + 1);
          } else {
            s.backend.Add(rows.x, rows.normed);
          }
        });
      }
    };
    if (Repeats(plan, append)) {
      s.backend.RunStep({&s, &cache, plan.spans.size(), plan.precision}, layers);
    } else {
      layers();
    }
  } catch (...) {  // out of memory, or an observer that had enough: as if the step had never been
                   // asked for
    for (const AppendPlan::Span& span : append.spans)
      cache.Truncate(span.sequence, span.first_position);
    throw;
  }
  cache.Commit(append);
  s.logits.Deliver(plan, s.scratch.x());
}

// Queries, keys and values of `layer`. Attention and feed-forward leave what they add to x in
// `normed`: what comes next adds it and norms the sum in one call.
void Decoder::State::MakeHeads(const RowBlock& rows, Precision precision, int layer) {
  const LayerWeights& w = weights.layers[layer];
  if (layer == 0) {
    backend.RmsNorm(rows.x, w.attention_norm->data(), spec.norm_eps, rows.normed);
    Project(w.qkv, rows.normed, rows.qkv, precision);
  } else {
    backend.AddRmsNormLinear(rows.x, rows.normed, w.attention_norm->data(), spec.norm_eps,
                             rows.normed, OutsOf(w.qkv, rows.qkv), precision);
  }
  if (spec.qk_norm) {
    NormHeads(rows.qkv, 0, spec.q_heads, *w.q_norm);
    NormHeads(rows.qkv, spec.q_heads, spec.kv_heads, *w.k_norm);
  }
}

void Decoder::State::Attention(const StepPlan& plan, const AppendPlan& append, const KvCache& cache,
                               int layer) {
  // q and k lie side by side: one call turns the heads of both.
  backend.Rope(scratch.qkv(), spec.q_heads + spec.kv_heads, spec.head_dim, scratch.positions(),
               spec.ropes[spec.layers[layer].rope]);
  attended_by_observer.assign(append.spans.size(), false);
  if (plan.observer != nullptr) Observe(plan, append, layer);
  EncodeAndAttend(plan, append, cache, layer);
}

// From what attention gave to the end of the layer.
void Decoder::State::FeedForward(const RowBlock& rows, Precision precision, int layer) {
  const LayerWeights& w = weights.layers[layer];
  Project(w.output, rows.attended, rows.normed, precision);
  if (spec.post_norms)
    backend.RmsNorm(rows.normed, w.post_attention_norm->data(), spec.norm_eps, rows.normed);
  if (layer + 1 < spec.num_layers) {
    for (const auto& part : weights.layers[layer + 1].qkv.parts) backend.Announce(*part);
  }
  backend.AddRmsNormLinear(rows.x, rows.normed, w.feed_forward_norm->data(), spec.norm_eps,
                           rows.normed, OutsOf(w.gate_up, rows.gate_up), precision);
  backend.GatedLinear(spec.activation, rows.gate, rows.up, rows.gate, OutsOf(w.down, rows.normed),
                      precision);
  if (spec.post_norms)
    backend.RmsNorm(rows.normed, w.post_feed_forward_norm->data(), spec.norm_eps, rows.normed);
}

void Decoder::State::EncodeAndAttend(const StepPlan& plan, const AppendPlan& append,
                                     const KvCache& cache, int layer) {
  const MatrixView<float> qkv = scratch.qkv(), attended = scratch.attended();
  const int cache_layer =
      plan.cache_layers.empty() ? layer : plan.cache_layers[static_cast<size_t>(layer)];
  encodes.clear();
  calls.clear();
  int64_t row = 0;
  size_t index = 0;
  for (const AppendPlan::Span& span : append.spans) {
    const KvLayerView kv = cache.View(span.sequence, cache_layer);
    const auto [q, k, v] = scratch.HeadsOf(row);
    encodes.push_back({.kv = kv,
                       .k = k,
                       .v = v,
                       .stride = qkv.stride,
                       .first_position = span.first_position,
                       .tokens = span.tokens,
                       .key_maps = KeyMapsOf(layer),
                       .centring = cache.policy().centring});
    if (attended_by_observer[index++]) {
      row += span.tokens;
      continue;
    }
    const bool fresh = plan.prefill == PrefillMode::kFast && span.tokens > 1;
    calls.push_back({.kv = kv,
                     .q = q,
                     .out = attended.row(row),
                     .q_stride = qkv.stride,
                     .out_stride = attended.stride,
                     .tokens = span.tokens,
                     .first_position = span.first_position,
                     .q_heads = spec.q_heads,
                     .scale = spec.attention_scale,
                     .fresh_k = fresh ? k : nullptr,
                     .fresh_v = fresh ? v : nullptr,
                     .fresh_stride = qkv.stride});
    row += span.tokens;
  }
  backend.EncodeKv(encodes);
  const std::span<const SealTask> seals = append.seal_after_encode;  // by layer
  const auto first = std::partition_point(seals.begin(), seals.end(),
                                          [&](const SealTask& task) { return task.layer < layer; });
  const auto last = std::partition_point(first, seals.end(),
                                         [&](const SealTask& task) { return task.layer == layer; });
  if (first != last) backend.Seal(cache, {first, last});
  if (!calls.empty()) backend.Attend(calls, KeyMapsOf(layer));
}

// Heads [first_head, first_head + heads) of the qkv rows, each normed by itself: all heads of a
// token, or one head of all tokens, at a time, whichever takes fewer calls.
void Decoder::State::NormHeads(MatrixView<float> qkv, int first_head, int heads,
                               const Buffer& weight) {
  const int64_t dim = spec.head_dim;
  if (qkv.rows <= heads) {
    for (int64_t t = 0; t < qkv.rows; ++t) {
      const MatrixView<float> view(qkv.row(t) + first_head * dim, heads, dim);
      backend.RmsNorm(view, weight.data(), spec.norm_eps, view);
    }
  } else {
    for (int h = first_head; h < first_head + heads; ++h) {
      const MatrixView<float> view(qkv.data + h * dim, qkv.rows, dim, qkv.stride);
      backend.RmsNorm(view, weight.data(), spec.norm_eps, view);
    }
  }
}

void Decoder::State::Observe(const StepPlan& plan, const AppendPlan& append, int layer) {
  const MatrixView<float> qkv = scratch.qkv(), attended = scratch.attended();
  const int64_t stride = qkv.stride, dim = spec.head_dim;
  const size_t size = static_cast<size_t>(qkv.rows * stride);
  observed.EnsureSize(static_cast<size_t>(attended.rows * attended.stride));
  float* host = backend.OnHost(qkv.data, size);
  int64_t row = 0;
  for (size_t i = 0; i < append.spans.size(); ++i) {
    const AppendPlan::Span& span = append.spans[i];
    float* heads = host + row * stride;
    const MatrixView<float> q(heads, span.tokens, spec.q_heads * dim, stride);
    const MatrixView<float> k(heads + spec.q_heads * dim, span.tokens, spec.kv_heads * dim, stride);
    const MatrixView<float> v(k.data + spec.kv_heads * dim, span.tokens, spec.kv_heads * dim,
                              stride);
    plan.observer->Layer(layer, span.sequence, span.first_position, q, k, v);
    attended_by_observer[i] = plan.observer->Attend(
        layer, span.sequence, span.first_position, q, k, v,
        {observed.data() + row * attended.stride, span.tokens, attended.cols, attended.stride});
    TQ_CHECK(!(plan.frugal && attended_by_observer[i]));
    row += span.tokens;
  }
  backend.Write(host, qkv.data, size);
  row = 0;
  for (size_t i = 0; i < append.spans.size(); ++i) {
    const int tokens = append.spans[i].tokens;
    if (attended_by_observer[i])
      backend.Write(observed.data() + row * attended.stride, attended.row(row),
                    static_cast<size_t>(tokens * attended.stride));
    row += tokens;
  }
}

// Parts that could not be stacked write to column ranges of one output.
std::span<const LinearOut> Decoder::State::OutsOf(const Projection& projection,
                                                  MatrixView<float> out) {
  outs.clear();
  int64_t column = 0;
  for (size_t i = 0; i < projection.parts.size(); ++i) {
    const PackedWeight& part = *projection.parts[i];
    const float* bias = projection.biases.empty() ? nullptr : projection.biases[i]->data();
    outs.push_back({&part, bias, {out.data + column, out.rows, part.rows(), out.stride}});
    column += part.rows();
  }
  return outs;
}

void Decoder::State::Check(const StepPlan& plan) {
  requests.clear();
  for (size_t i = 0; i < plan.spans.size(); ++i) {
    const SequenceSpan& span = plan.spans[i];
    if (span.tokens.empty())
      Throw(ErrorCode::kInvalidArgument, "span {} of the step has no tokens", i);
    for (const int32_t token : span.tokens) {
      if (token < 0 || token >= spec.vocabulary) {
        Throw(ErrorCode::kInvalidArgument, "token {} is not in the model's vocabulary of {}", token,
              spec.vocabulary);
      }
    }
    const auto count = static_cast<int>(span.tokens.size());
    if (span.logits == LogitsWanted::kRange &&
        !(0 <= span.logits_begin && span.logits_begin <= span.logits_end &&
          span.logits_end <= count)) {
      Throw(ErrorCode::kInvalidArgument, "logits of tokens [{}, {}) are wanted of a span of {}",
            span.logits_begin, span.logits_end, count);
    }
    requests.push_back({span.sequence, count});
  }
  if (plan.spans.empty()) Throw(ErrorCode::kInvalidArgument, "a step without tokens");
}

}  // namespace tq
