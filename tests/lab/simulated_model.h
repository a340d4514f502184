// SPDX-License-Identifier: Apache-2.0
// A model scored with caches of the product and with simulated ones.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <utility>
#include <vector>

#include "lab/compare.h"
#include "lab/session_logits.h"
#include "lab/simulation/simulated_attention.h"
#include "tests/engine/tiny_engine.h"

namespace tq::lab {

class SimulatedModel {
 public:
  SimulatedModel(std::shared_ptr<const Engine> engine, TextWindows windows)
      : engine_(std::move(engine)), windows_(std::move(windows)) {}

  const ModelSpec& spec() const { return engine_->spec(); }
  CachePolicy Policy(const char* k, const char* v) const { return MakePolicy(*engine_, k, v); }

  std::unique_ptr<SessionLogits> Product(const CachePolicy& policy) const {
    return std::make_unique<SessionLogits>(engine_, Options(policy));
  }
  std::unique_ptr<SessionLogits> Simulated(SimulatedCache cache) const {
    return std::make_unique<SessionLogits>(
        engine_, Options(Policy("f16", "f16")),
        std::make_unique<SimulatedAttention>(spec(), std::move(cache), 2));
  }
  // Of all windows, from f32.
  std::vector<DivergenceScores> Scores(std::vector<std::unique_ptr<SessionLogits>> runs,
                                       int batch = 200) const {
    std::vector<LogitsSource*> candidates;
    for (const auto& run : runs) candidates.push_back(run.get());
    std::vector<DivergenceScores> scores(runs.size());
    CompareOptions options;
    options.batch = batch;
    const auto reference = Product(Policy("f32", "f32"));
    for (int w = 0; w < windows_.count; ++w) {
      EXPECT_TRUE(
          CompareWindow(*reference, candidates, windows_, w, ThreadPool(2), options, scores));
    }
    return scores;
  }
  std::pair<DivergenceScores, DivergenceScores> Scores(std::unique_ptr<SessionLogits> a,
                                                       std::unique_ptr<SessionLogits> b) const {
    std::vector<std::unique_ptr<SessionLogits>> runs;
    runs.push_back(std::move(a));
    runs.push_back(std::move(b));
    std::vector<DivergenceScores> scores = Scores(std::move(runs));
    return {std::move(scores[0]), std::move(scores[1])};
  }
  double FromF32(SimulatedCache cache, int batch = 200) const {
    std::vector<std::unique_ptr<SessionLogits>> runs;
    runs.push_back(Simulated(std::move(cache)));
    return Mean(Scores(std::move(runs), batch)[0].kld).value;
  }

 private:
  SessionOptions Options(const CachePolicy& policy) const {
    SessionOptions options = test::ExactOptions(*engine_, "f16", "f16");
    options.cache = policy;
    return options;
  }

  std::shared_ptr<const Engine> engine_;
  TextWindows windows_;
};

}  // namespace tq::lab
