// SPDX-License-Identifier: Apache-2.0
// Matrix products of ops/linear.h: verifies against the reference, then times one pass over all
// matrices of a model's shape (random weights in the model's formats) for decode and prefill, and
// each layout alone.
//   bench_linear [smollm2|qwen2.5-1.5b|layouts ...] [--threads N] [--tokens N,N...] [--precise]
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "tests/ops/random_blocks.h"
#include "turboquant/base/error.h"
#include "turboquant/ops/linear.h"
#include "turboquant/ops/linear_workspace.h"

namespace tq {
namespace {

struct Shape {
  BlockFormat format;
  int64_t rows, cols;
};

// Products that share their input, as a decoder calls them.
using Step = std::vector<Shape>;

struct Options {
  std::vector<std::string> what;
  std::vector<int64_t> tokens = {1, 4, 512};
  int threads = 0;
  Precision precision = Precision::kFast;
};

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::vector<Step> SmolLm2() {
  std::vector<Step> steps;
  for (int layer = 0; layer < 30; ++layer) {
    steps.push_back({{BlockFormat::kQ4_1, 960, 576}});
    steps.push_back({{BlockFormat::kQ4_1, 576, 576}});
    steps.push_back({{BlockFormat::kQ4_1, 3072, 576}});
    steps.push_back({{BlockFormat::kQ4_1, 576, 1536}});
  }
  steps.push_back({{BlockFormat::kQ8_0, 49152, 576}});
  return steps;
}

std::vector<Step> Qwen() {
  std::vector<Step> steps;
  for (int layer = 0; layer < 28; ++layer) {
    const BlockFormat more = layer % 2 == 0 ? BlockFormat::kQ6_K : BlockFormat::kQ4_K;
    steps.push_back({{BlockFormat::kQ4_K, 1792, 1536}, {more, 256, 1536}});
    steps.push_back({{BlockFormat::kQ4_K, 1536, 1536}});
    steps.push_back({{BlockFormat::kQ4_K, 17920, 1536}});
    steps.push_back({{more, 1536, 8960}});
  }
  steps.push_back({{BlockFormat::kQ6_K, 151936, 1536}});
  return steps;
}

struct Model {
  std::vector<std::vector<std::unique_ptr<const PackedWeight>>> steps;
  uint64_t bytes = 0;
  int64_t body_values = 0, head_values = 0;  // the last step is the head: one row of logits only
};

Model Load(const std::vector<Step>& steps, const ThreadPool& pool) {
  Model model;
  uint64_t seed = 1;
  for (const Step& step : steps) {
    auto& weights = model.steps.emplace_back();
    for (const Shape& s : step) {
      weights.push_back(
          PackedWeight::Pack(MakeRandomTensor(s.format, s.rows, s.cols, seed++).tensor, pool));
      model.bytes += weights.back()->bytes();
      (&step == &steps.back() && steps.size() > 1 ? model.head_values : model.body_values) +=
          s.rows * s.cols;
    }
  }
  return model;
}

void RunStep(const std::vector<std::unique_ptr<const PackedWeight>>& weights,
             const std::vector<float>& x, int64_t tokens, std::vector<float>& out,
             const Options& options, LinearWorkspace& workspace, const ThreadPool& pool) {
  std::vector<LinearOut> jobs;
  float* at = out.data();
  for (const auto& w : weights) {
    jobs.push_back({w.get(), nullptr, {at, tokens, w->rows()}});
    at += tokens * w->rows();
  }
  Linear({x.data(), tokens, weights[0]->cols()}, jobs, options.precision, workspace, pool);
}

void Verify(const std::unique_ptr<const PackedWeight>& w, const Options& options,
            const ThreadPool& pool) {
  const int64_t tokens = 17;
  Random random(3);
  std::vector<float> x(static_cast<size_t>(tokens * w->cols())),
      out(static_cast<size_t>(tokens * w->rows())), expected(out);
  for (float& f : x) f = static_cast<float>(random.Gaussian());
  LinearWorkspace workspace;
  const LinearOut job = {w.get(), nullptr, {out.data(), tokens, w->rows()}};
  Linear({x.data(), tokens, w->cols()}, std::span(&job, 1), options.precision, workspace, pool);
  LinearReference({x.data(), tokens, w->cols()},
                  {w.get(), nullptr, {expected.data(), tokens, w->rows()}});
  double error = 0, norm = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    error += std::pow(static_cast<double>(out[i] - expected[i]), 2);
    norm += std::pow(static_cast<double>(expected[i]), 2);
  }
  TQ_CHECK(std::sqrt(error / norm) < (options.precision == Precision::kFast ? 1.5e-2 : 1e-5));
}

void Time(const std::string& name, const std::vector<Step>& steps, const Options& options) {
  const ThreadPool pool(options.threads);
  const Model model = Load(steps, pool);
  Verify(model.steps.front().front(), options, pool);
  for (int64_t tokens : options.tokens) {
    int64_t widest_in = 0, widest_out = 0;
    for (const Step& step : steps) {
      int64_t rows = 0;
      for (const Shape& s : step) rows += s.rows;
      widest_in = std::max(widest_in, step[0].cols);
      widest_out =
          std::max(widest_out, rows * (&step == &steps.back() && steps.size() > 1 ? 1 : tokens));
    }
    std::vector<float> x(static_cast<size_t>(tokens * widest_in)),
        out(static_cast<size_t>(widest_out));
    Random random(5);
    for (float& f : x) f = static_cast<float>(random.Gaussian());
    LinearWorkspace workspace;
    double best = 1e9;
    const double stop = Seconds() + 3.0;
    for (int repeat = 0; repeat < 3 || (Seconds() < stop && repeat < 200); ++repeat) {
      const double start = Seconds();
      for (const auto& step : model.steps) {
        const bool head = &step == &model.steps.back() && steps.size() > 1;
        RunStep(step, x, head ? 1 : tokens, out, options, workspace, pool);
      }
      best = std::min(best, Seconds() - start);
    }
    const double operations =
        2.0 * static_cast<double>(model.body_values * tokens + model.head_values);
    fmt::print("{:24} T {:4}: {:9.3f} ms {:8.1f} tok/s {:7.1f} GB/s {:8.1f} GFLOP/s\n", name,
               tokens, best * 1e3, static_cast<double>(tokens) / best,
               static_cast<double>(model.bytes) / best / 1e9, operations / best / 1e9);
  }
}

int Main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg == "--threads" && i + 1 < argc) {
      options.threads = std::atoi(argv[++i]);
    } else if (arg == "--precise") {
      options.precision = Precision::kPrecise;
    } else if (arg == "--tokens" && i + 1 < argc) {
      options.tokens.clear();
      for (char* part = std::strtok(argv[++i], ","); part != nullptr;
           part = std::strtok(nullptr, ",")) {
        options.tokens.push_back(std::atoll(part));
      }
    } else {
      options.what.push_back(arg);
    }
  }
  if (options.what.empty()) options.what = {"smollm2", "layouts"};
  for (const std::string& what : options.what) {
    if (what == "smollm2") {
      Time(what, SmolLm2(), options);
    } else if (what == "qwen2.5-1.5b") {
      Time(what, Qwen(), options);
    } else if (what == "layouts") {
      for (const BlockFormatInfo& info : kBlockFormats)
        Time(std::string(info.name), {{{info.format, 8192, 8192}}}, options);
    } else {
      fmt::print(stderr, "unknown: {}; known: smollm2, qwen2.5-1.5b, layouts\n", what);
      return 2;
    }
  }
  return 0;
}

}  // namespace
}  // namespace tq

int main(int argc, char** argv) { return tq::Main(argc, argv); }
