// SPDX-License-Identifier: Apache-2.0
// A model below the engine: spec, weights, decoder and cache, without tokenizer. For tests of the
// forward pass.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "turboquant/model/decoder.h"

namespace tq::test {

// Collects logits as [span][token] rows.
class CollectLogits : public LogitsSink {
 public:
  void Rows(int span, int first_token, MatrixView<const float> logits) override {
    for (int64_t r = 0; r < logits.rows; ++r) {
      rows.push_back(
          {span, first_token + static_cast<int>(r), {logits.row(r), logits.row(r) + logits.cols}});
    }
  }
  struct Row {
    int span;
    int token;
    std::vector<float> logits;
  };
  std::vector<Row> rows;
};

struct LoadedModel {
  explicit LoadedModel(const GgufFile& file, int threads = 2)
      : spec(ReadModelSpec(file)),
        backend(MakeBackend({.device = "cpu", .threads = threads})),
        weights(LoadWeights(file, spec, *backend)),
        decoder(spec, weights, *backend) {}

  CachePolicy Policy(Codec k, Codec v) const {
    CachePolicy policy;
    policy.k.assign(spec.num_layers, k);
    policy.v.assign(spec.num_layers, v);
    return policy;
  }
  std::unique_ptr<KvCache> MakeCache(const CachePolicy& policy) const {
    return std::make_unique<KvCache>(spec.kv_geometry(), policy,
                                     backend->MakeArenaMemory(uint64_t{4} << 30), 0);
  }
  std::unique_ptr<KvCache> MakeCache(Codec k, Codec v) const { return MakeCache(Policy(k, v)); }

  // Appends tokens to one sequence; logits of all of them if `all`, else of the last.
  std::vector<std::vector<float>> Run(KvCache& cache, SequenceId sequence,
                                      std::span<const int32_t> tokens, bool all = false,
                                      PrefillMode prefill = PrefillMode::kExact,
                                      Precision precision = Precision::kPrecise) {
    CollectLogits sink;
    StepPlan plan;
    plan.spans = {{.sequence = sequence,
                   .tokens = tokens,
                   .logits = all ? LogitsWanted::kRange : LogitsWanted::kLast,
                   .logits_begin = 0,
                   .logits_end = static_cast<int>(tokens.size())}};
    plan.sink = &sink;
    plan.prefill = prefill;
    plan.precision = precision;
    decoder.Forward(plan, cache);
    std::vector<std::vector<float>> rows;
    for (auto& row : sink.rows) rows.push_back(std::move(row.logits));
    return rows;
  }

  ModelSpec spec;
  std::unique_ptr<Backend> backend;
  Weights weights;
  Decoder decoder;
};

inline int ArgMax(const std::vector<float>& logits) {
  return static_cast<int>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// A file in the folder that an environment variable names; none if either is not there.
inline std::optional<std::string> EnvFile(const char* variable, const std::string& name) {
  const char* folder = std::getenv(variable);
  if (folder == nullptr || *folder == '\0') return std::nullopt;
  const std::filesystem::path path = std::filesystem::path(folder) / name;
  if (!std::filesystem::exists(path)) return std::nullopt;
  return path.string();
}

}  // namespace tq::test
