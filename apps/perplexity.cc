// SPDX-License-Identifier: Apache-2.0
// turboquant perplexity: what llama-perplexity computes, printed as it prints it.
#include "lab/perplexity.h"

#include <fmt/format.h>

#include <memory>
#include <optional>

#include "apps/commands.h"
#include "apps/common_flags.h"
#include "apps/divergence_report.h"
#include "apps/interrupt.h"
#include "apps/text_input.h"
#include "lab/kl_divergence.h"
#include "lab/session_logits.h"

namespace tq::app {
namespace {

struct PerplexityFlags {
  ModelFlags model;
  CacheFlags cache;
  StepFlags step;
  TextFlags text;
  int chunks = 0;
  std::string base_file;
  bool divergence = false;
};

SessionOptions Options(const Engine& engine, const CacheFlags& cache, const StepFlags& step) {
  SessionOptions options = MakeSessionOptions(engine, cache, step, StepUse::kMeasure);
  options.calibration = CalibrationFor(engine, cache.calibration, options.cache);
  return options;
}

void MeasureText(const PerplexityFlags& flags, std::shared_ptr<const Engine> engine) {
  if (!HasText(flags.text))
    Throw(ErrorCode::kInvalidArgument, "give the text to score with -f FILE");
  const std::string text = ReadText(flags.text);
  StepFlags step = flags.step;
  const int context = static_cast<int>(step.context);
  const lab::TextWindows windows =
      lab::MakeWindows(engine->tokenizer().Encode(text, true, false), engine->tokenizer().special(),
                       context, flags.chunks, 2);
  lab::SessionLogits source(engine, Options(*engine, flags.cache, step));
  PrintCacheSummary(source.session());
  fmt::print(stderr, "scoring  {} windows of {} tokens\n", windows.count, context);
  std::optional<lab::KldBaseWriter> base;
  if (!flags.base_file.empty()) base.emplace(flags.base_file, windows, source.vocabulary());
  lab::PerplexityOptions options;
  options.batch = std::min(step.batch, step.ubatch);
  options.base = base ? &*base : nullptr;
  options.on_window = [](int done, double perplexity) {
    fmt::print("[{}]{:.4f},", done, perplexity);
    std::fflush(stdout);
    return !Interrupted();
  };
  const lab::PerplexityResult result =
      lab::MeasurePerplexity(source, windows, ThreadPool(engine->backend().threads()), options);
  const lab::Estimate perplexity = result.perplexity();
  fmt::print("\nFinal estimate: PPL = {:.4f} +/- {:.5f}\n", perplexity.value, perplexity.error);
  if (result.windows_done < windows.count) {
    Throw(ErrorCode::kCancelled, "interrupted after {} of {} windows", result.windows_done,
          windows.count);
  }
  if (base) {
    base->Finish();
    fmt::print(stderr, "log-probabilities written to {}\n", flags.base_file);
  }
}

void MeasureAgainstFile(const PerplexityFlags& flags, std::shared_ptr<const Engine> engine) {
  if (flags.base_file.empty())
    Throw(ErrorCode::kInvalidArgument,
          "--kl-divergence needs --kl-divergence-base FILE to compare with");
  lab::KldBaseReader base(flags.base_file);
  StepFlags step = flags.step;
  step.context = base.windows().context;
  lab::SessionLogits source(engine, Options(*engine, flags.cache, step));
  PrintCacheSummary(source.session());
  const int count = base.windows().count;
  fmt::print(stderr, "scoring  {} windows of {} tokens against {}\n", count, base.windows().context,
             flags.base_file);
  fmt::print("{}", DivergenceHeader());
  int done = 0;
  lab::DivergenceOptions options;
  options.batch = std::min(step.batch, step.ubatch);
  options.on_window = [&](int windows_done, const lab::DivergenceScores& scores) {
    done = windows_done;
    fmt::print("{}", DivergenceLine(windows_done, scores));
    std::fflush(stdout);
    return !Interrupted();
  };
  const SpecialTokens& special = engine->tokenizer().special();
  const lab::DivergenceScores scores =
      lab::MeasureDivergence(source, base, special.add_bos ? special.bos : -1,
                             ThreadPool(engine->backend().threads()), options);
  fmt::print("\n{}", DivergenceSummary(scores));
  if (done < count) Throw(ErrorCode::kCancelled, "interrupted after {} of {} windows", done, count);
}

}  // namespace

void AddPerplexityCommand(Command root) {
  auto flags = std::make_shared<PerplexityFlags>();
  flags->step.context = 512;
  flags->cache.type_k = flags->cache.type_v = "f16";
  const Command command = root.AddCommand(
      "perplexity",
      "Perplexity of a text and divergence from a reference run, by llama.cpp's method");
  AddModelFlags(command, flags->model);
  AddTextFlags(command, flags->text);
  AddCacheTypeFlags(command, flags->cache);
  AddCacheShapeFlags(command, flags->cache);
  AddCacheAgeFlag(command, flags->cache);
  AddCacheBudgetFlag(command, flags->cache);
  AddStepFlags(command, flags->step, StepUse::kMeasure);
  command.AddOption("--chunks", flags->chunks, "Windows to score (0 or -1: all)");
  command.AddOption("--kl-divergence-base", flags->base_file,
                    "File of reference log-probabilities: written, or read with --kl-divergence");
  command.AddFlag("--kl-divergence", flags->divergence,
                  "Compare with the file instead of writing it");
  command.OnRun([flags] {
    if (flags->step.context <= 0)
      Throw(ErrorCode::kInvalidArgument, "-c: give the tokens of a window, 4 or more");
    auto engine = LoadEngine(flags->model);
    flags->divergence ? MeasureAgainstFile(*flags, engine) : MeasureText(*flags, engine);
  });
}

}  // namespace tq::app
