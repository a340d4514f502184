// SPDX-License-Identifier: Apache-2.0
#include "apps/experiment_measure.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "apps/compare_report.h"
#include "apps/interrupt.h"
#include "apps/needle_run.h"
#include "apps/progress.h"
#include "lab/bench.h"
#include "lab/codec_noise.h"
#include "lab/decode_ladder.h"

namespace tq::app {
namespace {

using lab::Estimate;
using lab::Experiment;

constexpr int kNoiseSeeds = 8;
constexpr int kWindowBudget = 8192;  // tokens of text that each row is scored on
constexpr int kQuickWindowBudget = kQuickContext;
constexpr int kNeedles = 4;  // one asked for, three that distract
constexpr int kHaystacks = 20, kQuickHaystacks = 4;

Estimate OfSamples(const std::vector<double>& samples) {
  const lab::MeanAndDeviation summary = lab::Summarise(samples);
  return {summary.mean, summary.deviation / std::sqrt(static_cast<double>(samples.size()))};
}

// What does not parse, fit or run is noted, not measured.
void AddRows(const Experiment& experiment, Figures& figures,
             const std::function<MeasuredRow(const std::string& row)>& measure) {
  const auto leave_out = [&](const std::string& row, const char* why) {
    figures.note += fmt::format("{}{}: {}", figures.note.empty() ? "" : "; ", row, why);
  };
  for (const std::string& row : lab::RowsOf(experiment)) {
    ThrowIfInterrupted();
    if (WhyNotInBuild(experiment.measure, row)) {
      leave_out(row, "not in this build");
      continue;
    }
    try {
      MeasuredRow measured = measure(row);
      measured.name = row;
      figures.rows.emplace(row, std::move(measured));
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kUnsupported) throw;
      leave_out(row, error.what());
    }
  }
}

}  // namespace

Figures MeasureNoise(const Experiment& experiment) {
  Figures figures;
  figures.extent = fmt::format("512 Gaussian vectors, {} times", kNoiseSeeds);
  AddRows(experiment, figures, [](const std::string& text) {
    const NoiseRow row = ParseNoiseRow(text);
    std::vector<double> samples;
    for (uint64_t seed = 1; seed <= kNoiseSeeds; ++seed)
      samples.push_back(lab::CodecDb(row.codec, row.head_dim, seed));
    return MeasuredRow{.figure = OfSamples(samples),
                       .bits_per_value = BitsPerValue(row.codec, row.head_dim)};
  });
  return figures;
}

Figures MeasureBasis(const Experiment& experiment, bool quick) {
  const int repetitions = quick ? 5 : 20;
  Figures figures;
  figures.extent = fmt::format(
      "one KV head of 128 dimensions, 4 query heads, 4096 tokens, one core, {} repetitions",
      repetitions);
  AddRows(experiment, figures, [&](const std::string& text) {
    const BasisRow row = ParseBasisRow(text);
    return MeasuredRow{.figure = OfSamples(lab::BasisCost(row.codec, row.basis, repetitions)),
                       .bits_per_value = BitsPerValue(row.codec, 128)};
  });
  return figures;
}

Figures MeasureDecode(const Experiment& experiment, bool quick) {
  const int repetitions = quick ? 5 : 20;
  Figures figures;
  figures.extent = fmt::format(
      "plain loops over 4096 vectors of 128 codes, one core, {} repetitions", repetitions);
  AddRows(experiment, figures, [&](const std::string& text) {
    return MeasuredRow{
        .figure = OfSamples(lab::DecodeLadder(lab::ParseDecodeWay(text), repetitions)),
        .bits_per_value = 3};
  });
  return figures;
}

Figures MeasureRetrieval(std::shared_ptr<const Engine> engine, const std::string& text,
                         const LabRunFlags& flags, const std::string& scores,
                         const Experiment& experiment) {
  const int num_layers = engine->spec().num_layers;
  const auto context = static_cast<int>(
      std::min<int64_t>(flags.quick ? kQuickHaystack : experiment.size, engine->spec().context));
  NeedleFlags needles;
  needles.comparison.cache.calibration = flags.calibration;
  needles.comparison.output = scores;
  needles.comparison.leave_out = true;
  needles.contexts = {context};
  needles.depths = kNeedles;
  needles.trials = flags.quick ? kQuickHaystacks : kHaystacks;
  needles.types.clear();
  Figures parsed;  // notes what does not parse; the rows below say it
  AddRows(experiment, parsed, [&](const std::string& row) {
    ParseDivergenceRow(row, num_layers);
    needles.types.push_back(row);
    return MeasuredRow{};
  });
  needles = Resolve(std::move(needles), *engine);
  NeedleRun run(std::move(engine), text, needles);
  run.Ask();
  if (!run.complete())
    Throw(ErrorCode::kCancelled, "interrupted; the same command goes on where it stopped");

  Figures figures;
  figures.extent = fmt::format("{} texts of {} tokens, {} needles in each, asked for every one",
                               run.trials(), context, kNeedles);
  using Scores = std::vector<lab::NeedleScore>;
  std::map<std::string, Scores> scores_of;
  AddRows(experiment, figures, [&](const std::string& text_of_row) {
    const CompareType type = ParseDivergenceRow(text_of_row, num_layers);
    const ComparisonRow* row = run.caches().Find(type);
    if (row == nullptr && type == run.caches().reference().asked) row = &run.caches().reference();
    if (row == nullptr) Throw(ErrorCode::kUnsupported, "this device does not run it");
    Scores& of = scores_of[text_of_row];
    of = run.Scores(*row, lab::NeedleTask::kMultiKey, context);
    const lab::NeedleSummary summary = lab::SummariseNeedles(of);
    std::vector<float> found;
    for (const lab::NeedleScore& score : of) found.push_back(score.found ? 1 : 0);
    return MeasuredRow{
        .detail = fmt::format("{} of {}, 95 %: {:.2f} to {:.2f}; ln p {:.2f} ± {:.2f}",
                              summary.found, summary.asked, summary.share().low,
                              summary.share().high, summary.log_prob.value, summary.log_prob.error),
        .simulated = row->type.IsSimulated(),
        .figure = lab::BlockMean(found, kNeedles),
        .bits_per_value = row->bits_per_value};
  });
  figures.gain = [scores_of](const std::string& a, const std::string& b) {
    return lab::CompareNeedles(scores_of.at(a), scores_of.at(b), kNeedles).share;
  };
  return figures;
}

MeasuredRow SpeedMeter::Time(lab::BenchCase test) {
  test.n_depth = static_cast<int>(std::clamp<int64_t>(
      test.n_depth, 0, std::max<int64_t>(engine_->spec().context - test.n_prompt - test.n_gen, 0)));
  const std::string key =
      fmt::format("{}/{} {} ub{}", test.type_k, test.type_v, test.Name(), test.n_ubatch);
  if (const auto known = timed_.find(key); known != timed_.end()) return known->second;
  lab::BenchOptions options;
  options.repetitions = repetitions();
  options.session.cache = MakePolicy(*engine_, test.type_k, test.type_v);
  engine_->backend().CheckCache(engine_->spec().kv_geometry(), options.session.cache,
                                engine_->spec().q_heads);
  if (calibration_ == nullptr)
    calibration_ = CalibrationFor(*engine_, flags_.calibration, options.session.cache);
  options.session.calibration = calibration_;
  options.on_progress = [](int, int) { ThrowIfInterrupted(); };
  const lab::BenchResult result = lab::RunBench(engine_, test, options);
  const MeasuredRow row{.detail = fmt::format("{}, passes of {}", test.Name(), test.n_ubatch),
                        .figure = OfSamples(result.TokensPerSecond()),
                        .bits_per_value = result.kv_bits_per_value};
  return timed_.emplace(key, row).first->second;
}

Figures SpeedMeter::Measure(const Experiment& experiment) {
  const int decode = flags_.quick ? 8 : 32;
  if (experiment.head_dim != 0 && experiment.head_dim != engine_->spec().head_dim) {
    return {.note = fmt::format("is about heads of {} dimensions, {} has {}", experiment.head_dim,
                                engine_->spec().name, engine_->spec().head_dim)};
  }
  Figures figures;
  figures.extent = fmt::format("{} repetitions, {} tokens decoded", repetitions(), decode);
  Progress bar(fmt::format("timing {}", experiment.id), Progress::Unit::kSteps);
  const uint64_t rows = lab::RowsOf(experiment).size();
  uint64_t done = 0;
  AddRows(experiment, figures, [&](const std::string& text) {
    bar.Update(done++, rows);
    return Time(ParseSpeedRow(text, experiment.size, decode, flags_.quick));
  });
  bar.Done();
  return figures;
}

int WindowTokens(int size, bool quick, int64_t text_tokens, int64_t model_context) {
  return static_cast<int>(std::min({quick ? kQuickContext : size, static_cast<int>(text_tokens),
                                    static_cast<int>(model_context)}));
}

DivergenceMeter::DivergenceMeter(const ModelAndText& loaded, const LabRunFlags& flags, int context,
                                 const std::string& scores,
                                 const std::vector<const Experiment*>& experiments)
    : num_layers_(loaded.engine->spec().num_layers) {
  comparison_flags_.cache.calibration = flags.calibration;
  comparison_flags_.step.context = context;
  comparison_flags_.chunks =
      std::max((flags.quick ? kQuickWindowBudget : kWindowBudget) / std::max(context, 1), 1);
  comparison_flags_.output = scores;
  comparison_flags_.no_floor = flags.quick;
  comparison_flags_.leave_out = true;
  std::vector<CompareType> types;
  for (const Experiment* experiment : experiments) {
    Figures parsed;  // notes what does not parse; Of() says it
    AddRows(*experiment, parsed, [&](const std::string& row) {
      const CompareType type = ParseDivergenceRow(row, num_layers_);
      if (std::ranges::find(types, type) == types.end()) types.push_back(type);
      return MeasuredRow{};
    });
  }
  comparison_ = std::make_unique<Comparison>(loaded, comparison_flags_, types);
}

void DivergenceMeter::Score() {
  comparison_->Score();
  if (!comparison_->complete())
    Throw(ErrorCode::kCancelled, "interrupted; the same command goes on where it stopped");
}

Figures DivergenceMeter::Of(const Experiment& experiment) const {
  Figures figures;
  figures.extent = fmt::format("{} x {} tokens, {} positions scored, cache of f16 = 0",
                               comparison_->windows().count, comparison_->windows().context,
                               comparison_->positions());
  if (const ComparisonRow* floor = comparison_->floor())
    figures.extent += fmt::format(", of f32 {:.6f}", Kld(*floor).value);
  std::map<std::string, const ComparisonRow*> rows;
  AddRows(experiment, figures, [&](const std::string& text) {
    const ComparisonRow* row = comparison_->Find(ParseDivergenceRow(text, num_layers_));
    if (row == nullptr) Throw(ErrorCode::kUnsupported, "not on this device, or at this context");
    rows[text] = row;
    return MeasuredRow{.detail = row->type.Name(),
                       .simulated = row->type.IsSimulated(),
                       .figure = Kld(*row),
                       .bits_per_value = row->bits_per_value};
  });
  figures.gain = [rows](const std::string& a, const std::string& b) {
    return KldDifference(*rows.at(b), *rows.at(a));  // less is better
  };
  return figures;
}

}  // namespace tq::app
