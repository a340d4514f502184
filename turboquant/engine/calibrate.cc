// SPDX-License-Identifier: Apache-2.0
#include "turboquant/engine/calibrate.h"

#include <algorithm>
#include <cmath>

#include "turboquant/base/thread_pool.h"
#include "turboquant/engine/attention_error.h"
#include "turboquant/engine/calibration_text.h"
#include "turboquant/engine/linear_algebra.h"
#include "turboquant/engine/position_spread.h"
#include "turboquant/model/decoder.h"

namespace tq {
namespace {

constexpr int kSkippedTokens = 4;  // attention sinks: nothing like other keys, and never compressed
// 1 % left more divergence at 3 bits on 8K tokens of WikiText: .0062 and .0061 (Gemma, SmolLM2), 3
// % .0061 and .0058, 10 % .0068.
constexpr double kShrinkage = 0.03;
constexpr int kQueryStep = 4;
constexpr int kSpreadPositions = 8192;

// The codec that stands for all of its width: the first in the list.
Codec CodecOfBits(int bits) {
  const auto* found = std::ranges::find_if(
      kCodecs, [&](const CodecInfo& info) { return info.tiles && info.bits == bits; });
  TQ_CHECK(found != kCodecs.end());
  return found->codec;
}

// Second moments of one head's vectors on the text's first part and on the part held out.
struct Moments {
  explicit Moments(int head_dim)
      : train(static_cast<size_t>(head_dim) * head_dim), held_out(train.size()) {}
  std::vector<double> train, held_out;
};

// One layer's vectors [T, heads D]; T whole pages.
class LayerCalibrator {
 public:
  LayerCalibrator(const ModelSpec& spec, int layer, MatrixView<const float> q,
                  MatrixView<const float> k, MatrixView<const float> v, const ThreadPool& pool)
      : spec_(spec),
        dim_(spec.head_dim),
        sliding_window_(spec.layers[static_cast<size_t>(layer)].sliding_window),
        rope_(spec.ropes[static_cast<size_t>(spec.layers[static_cast<size_t>(layer)].rope)]),
        q_(q),
        k_(k),
        v_(v),
        pages_(static_cast<int>(k.rows / kPageTokens)),
        first_held_out_(pages_ * 3 / 4),
        pool_(pool),
        heads_(static_cast<size_t>(spec.kv_heads)),
        key_moments_(heads_.size(), Moments(dim_)),
        query_moments_(heads_.size(), Moments(dim_)) {}

  std::vector<HeadCalibration> Run() {
    ForEach(spec_.kv_heads, [&](int g) { MeasureKeys(g); });
    MeasureQueries();
    ForEach(spec_.kv_heads, [&](int g) { Spread(g); });
    ForEach(spec_.kv_heads, [&](int g) { Solve(g); });
    for (int g = 0; g < spec_.kv_heads; ++g) Judge(g);
    return std::move(heads_);
  }

 private:
  template <typename Fn>
  void ForEach(int64_t count, Fn&& fn) {
    pool_.ParallelForDynamic(count, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) fn(static_cast<int>(i));
    });
  }
  MatrixView<const float> Head(MatrixView<const float> m, int head, int64_t begin,
                               int64_t end) const {
    return {m.row(begin) + int64_t{head} * dim_, end - begin, dim_, m.stride};
  }
  MatrixView<const float> Head(MatrixView<const float> m, int head) const {
    return Head(m, head, 0, int64_t{pages_} * kPageTokens);
  }
  static int64_t PageBegin(int page) { return page == 0 ? kSkippedTokens : page * kPageTokens; }
  std::vector<double>& PartOf(Moments& moments, int page) const {
    return page < first_held_out_ ? moments.train : moments.held_out;
  }

  void MeasureKeys(int g) {
    for (int page = 0; page < pages_; ++page) {
      const auto keys = Head(k_, g, PageBegin(page), (page + 1) * kPageTokens);
      std::vector<float> mean(static_cast<size_t>(dim_), 0.0f);
      for (int64_t t = 0; t < keys.rows; ++t) {
        for (int i = 0; i < dim_; ++i) mean[static_cast<size_t>(i)] += keys.row(t)[i];
      }
      for (float& x : mean) x /= static_cast<float>(keys.rows);
      AddMoment(keys, mean.data(), PartOf(key_moments_[static_cast<size_t>(g)], page));
      if (page == 0) heads_[static_cast<size_t>(g)].mean = std::move(mean);
    }
  }

  void MeasureQueries() {
    const int group = spec_.q_heads / spec_.kv_heads;
    std::vector<Moments> of_query_head(static_cast<size_t>(spec_.q_heads), Moments(dim_));
    ForEach(spec_.q_heads, [&](int h) {
      for (int page = 0; page < pages_; ++page) {
        AddMoment(Head(q_, h, PageBegin(page), (page + 1) * kPageTokens), nullptr,
                  PartOf(of_query_head[static_cast<size_t>(h)], page));
      }
    });
    for (int h = 0; h < spec_.q_heads; ++h) {
      const Moments& one = of_query_head[static_cast<size_t>(h)];
      Moments& sum = query_moments_[static_cast<size_t>(h / group)];
      for (size_t i = 0; i < one.train.size(); ++i) {
        sum.train[i] += one.train[i];
        sum.held_out[i] += one.held_out[i];
      }
    }
  }

  // Moments of positions that the text does not reach: a map fitted to the text's own alone leaves
  // a third of the divergence on Gemma (docs/quality.md).
  void Spread(int g) {
    const int range = std::min(spec_.context, kSpreadPositions);
    for (Moments* moments :
         {&key_moments_[static_cast<size_t>(g)], &query_moments_[static_cast<size_t>(g)]}) {
      SpreadOverPositions(rope_, range, dim_, moments->train);
      SpreadOverPositions(rope_, range, dim_, moments->held_out);
    }
  }

  // The map from the first part, and what it promises on the second.
  void Solve(int g) {
    HeadCalibration& head = heads_[static_cast<size_t>(g)];
    const Moments& keys = key_moments_[static_cast<size_t>(g)];
    const Moments& queries = query_moments_[static_cast<size_t>(g)];
    head.error_ratio.fill(1.0f);
    auto map = SolveBalancedMap(keys.train, queries.train, dim_, kShrinkage);
    if (!map) return;
    head.forward = std::move(map->forward);
    head.inverse_transpose = std::move(map->inverse_transpose);
    const double without =
        EnergyAfter({}, keys.held_out, dim_) * EnergyAfter({}, queries.held_out, dim_);
    const double with = EnergyAfter(head.forward, keys.held_out, dim_) *
                        EnergyAfter(head.inverse_transpose, queries.held_out, dim_);
    head.score_gain_db = static_cast<float>(10 * std::log10(without / with));
  }

  // What the second part's keys, as they come back from the cache, do to attention: per width
  // without the map and with it.
  void Judge(int g) {
    HeadCalibration& head = heads_[static_cast<size_t>(g)];
    if (head.forward.empty()) return;
    std::vector<float> matrices(2 * head.forward.size());
    head.WriteMatrices(matrices.data());
    const KeyMap mapped = {matrices.data(), matrices.data() + head.forward.size(), nullptr};
    std::array<StoredKeys, 2 * kCalibratedBits.size()> stored;
    ForEach(std::ssize(stored), [&](int i) {
      const KeyMap& map = i % 2 == 0 ? KeyMap{} : mapped;
      const Codec codec = CodecOfBits(kCalibratedBits[static_cast<size_t>(i / 2)]);
      const auto keys = Head(k_, g, 0, PageBegin(pages_ - 1));  // the last page only asks
      stored[static_cast<size_t>(i)] = {SealedKeys(keys, first_held_out_, codec, map), map};
    });

    const int group = spec_.q_heads / spec_.kv_heads, asking = pages_ - first_held_out_ - 1;
    std::vector<std::vector<double>> errors(static_cast<size_t>(group * asking));
    ForEach(group * asking, [&](int i) {
      errors[static_cast<size_t>(i)] = OutputErrors({.q = Head(q_, g * group + i / asking),
                                                     .k = Head(k_, g),
                                                     .v = Head(v_, g),
                                                     .scale = spec_.attention_scale,
                                                     .sliding_window = sliding_window_,
                                                     .first_page = first_held_out_,
                                                     .query_page = first_held_out_ + 1 + i % asking,
                                                     .query_step = kQueryStep},
                                                    stored);
    });
    bool used = false;
    for (size_t width = 0; width < kCalibratedBits.size(); ++width) {
      double without = 0, with = 0;
      for (const std::vector<double>& of_page : errors) {
        without += of_page[2 * width];
        with += of_page[2 * width + 1];
      }
      if (without > 0 && std::isfinite(with))
        head.error_ratio[width] = static_cast<float>(with / without);
      used |= head.Gains(width);
    }
    head.forward.clear(), head.inverse_transpose.clear();
    if (used) Refit(g);
  }

  // A map that has proved itself is fitted once more, on the whole text.
  void Refit(int g) {
    HeadCalibration& head = heads_[static_cast<size_t>(g)];
    Moments& keys = key_moments_[static_cast<size_t>(g)];
    Moments& queries = query_moments_[static_cast<size_t>(g)];
    for (Moments* moments : {&keys, &queries}) {
      for (size_t i = 0; i < moments->train.size(); ++i) moments->train[i] += moments->held_out[i];
    }
    auto map = SolveBalancedMap(keys.train, queries.train, dim_, kShrinkage);
    if (!map) return;
    head.forward = std::move(map->forward);
    head.inverse_transpose = std::move(map->inverse_transpose);
  }

  const ModelSpec& spec_;
  const int dim_, sliding_window_;
  const RopeTable& rope_;
  const MatrixView<const float> q_, k_, v_;
  const int pages_, first_held_out_;
  const ThreadPool& pool_;
  std::vector<HeadCalibration> heads_;  // [G]
  std::vector<Moments> key_moments_, query_moments_;
};

class CalibrationObserver final : public Observer {
 public:
  CalibrationObserver(const ModelSpec& spec, int threads, const CalibrateOptions& options)
      : spec_(spec), pool_(threads), options_(options) {}

  void Layer(int layer, SequenceId, int64_t, MatrixView<float> q, MatrixView<float> k,
             MatrixView<float> v) override {
    if (options_.progress) options_.progress(layer, spec_.num_layers);
    for (HeadCalibration& head : LayerCalibrator(spec_, layer, q, k, v, pool_).Run())
      heads_.push_back(std::move(head));
  }
  std::vector<HeadCalibration> TakeHeads() { return std::move(heads_); }

 private:
  const ModelSpec& spec_;
  const ThreadPool pool_;
  const CalibrateOptions& options_;
  std::vector<HeadCalibration> heads_;  // [L, G]
};

// A cache that nobody reads: one layer of it for all of the model's that see equally far.
struct SharedLayers {
  explicit SharedLayers(const KvGeometry& of_model) : geometry(of_model) {
    std::vector<int>& windows = geometry.sliding_window;
    windows.clear();
    for (const int window : of_model.sliding_window) {
      auto same = std::ranges::find(windows, window);
      if (same == windows.end()) same = windows.insert(same, window);
      cache_layers.push_back(static_cast<int>(same - windows.begin()));
    }
    geometry.num_layers = static_cast<int>(windows.size());
  }
  KvGeometry geometry;
  std::vector<int> cache_layers;  // [L]
};

}  // namespace

Calibration Calibrate(const Engine& engine, const CalibrateOptions& options) {
  const ModelSpec& spec = engine.spec();
  if (std::ranges::find(kHeadDims, spec.head_dim) == kHeadDims.end()) {
    Throw(ErrorCode::kUnsupported, "there is no calibration for heads of dim {}", spec.head_dim);
  }
  std::vector<TokenId> tokens = engine.tokenizer().Encode(
      options.text.empty() ? CalibrationText() : options.text, true, false);
  const int most = std::min(kCalibrationTokens, spec.context);
  tokens.resize(std::min(tokens.size(), static_cast<size_t>(most)) / kPageTokens * kPageTokens);
  if (tokens.size() < kLeastCalibrationTokens) {
    Throw(ErrorCode::kInvalidArgument,
          "too few tokens to calibrate with: {} whole pages' worth in the text within a context of "
          "{}, {} are needed",
          tokens.size(), spec.context, kLeastCalibrationTokens);
  }

  // One pass over all tokens: attention reads the fresh keys and values, whatever the cache is.
  const SharedLayers shared(spec.kv_geometry());
  CachePolicy policy;
  policy.k.assign(shared.geometry.sliding_window.size(), Codec::kF16);
  policy.v = policy.k;
  const auto count = static_cast<int>(tokens.size());
  const uint64_t bytes = KvCache::BytesForContext(shared.geometry, policy, count, count);
  KvCache cache(shared.geometry, policy, engine.backend().MakeArenaMemory(2 * bytes), 0);
  CalibrationObserver observer(spec, engine.backend().threads(), options);
  StepPlan plan;
  plan.spans = {{.sequence = cache.NewSequence(), .tokens = tokens, .logits = LogitsWanted::kNone}};
  plan.observer = &observer;
  plan.prefill = PrefillMode::kFast;
  plan.frugal = !engine.backend().FreeMemory();  // the host's memory
  plan.cache_layers = shared.cache_layers;
  Decoder(spec, engine.weights(), engine.backend()).Forward(plan, cache);

  Calibration calibration;
  calibration.model_id = engine.model_id();
  calibration.text_hash = CalibrationTextHash(options.text);
  calibration.tokens = count;
  calibration.num_layers = spec.num_layers;
  calibration.kv_heads = spec.kv_heads;
  calibration.head_dim = spec.head_dim;
  calibration.heads = observer.TakeHeads();
  return calibration;
}

}  // namespace tq
