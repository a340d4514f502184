// SPDX-License-Identifier: Apache-2.0
// turboquant compare: what each cache type costs in quality and buys in memory and speed, on the
// user's model and text.
#include <algorithm>
#include <memory>

#include "apps/commands.h"
#include "apps/compare_report.h"
#include "apps/comparison.h"
#include "apps/interrupt.h"
#include "apps/progress.h"
#include "lab/bench.h"

namespace tq::app {
namespace {

struct CompareFlags {
  ComparisonFlags comparison;
  std::vector<std::string> types = {
      "f32,q8_0,turbo8,q4_0,turbo4_tcq,turbo4,turbo4_tcq/turbo3_tcq,turbo3_tcq,turbo3,turbo2_tcq,"
      "turbo2"};
  std::string against;
  int depth = -1;  // -1: the context
  int decode = 32;
  bool no_speed = false;
};

void MeasureSpeed(const CompareFlags& flags, int depth, Comparison& comparison) {
  Progress bar("timing decode", Progress::Unit::kSteps);
  std::vector<ComparisonRow*> timed = {&comparison.reference()};
  for (ComparisonRow& row : comparison.rows()) {
    if (!row.type.IsSimulated()) timed.push_back(&row);
  }
  for (size_t i = 0; i < timed.size(); ++i) {
    bar.Update(i, timed.size());
    lab::BenchOptions options;
    options.repetitions = 1;
    options.session.cache = timed[i]->policy;
    options.session.calibration = comparison.CalibrationOf(*timed[i]);
    options.on_progress = [](int, int) { ThrowIfInterrupted(); };
    const lab::BenchCase test{.n_gen = flags.decode, .n_depth = depth};
    timed[i]->decode_rate =
        lab::RunBench(comparison.engine(), test, options).TokensPerSecond().front();
  }
  bar.Done();
}

// The row that differences are taken from: the one named, else the first that is not the floor.
size_t RowOf(const Comparison& comparison, const std::string& against) {
  const std::vector<ComparisonRow>& rows = comparison.rows();
  if (against.empty()) return rows.size() > 1 && &rows[0] == comparison.floor() ? 1 : 0;
  const std::string name = ParseCompareTypes({against}).front().Name();
  for (size_t i = 0; i < rows.size(); ++i) {
    if (rows[i].type.Name() == name) return i;
  }
  Throw(ErrorCode::kInvalidArgument, "--against {}: it is not among --types", against);
}

void Run(const CompareFlags& flags) {
  Comparison comparison(flags.comparison, ParseCompareTypes(flags.types));
  if (comparison.rows().empty())
    Throw(ErrorCode::kInvalidArgument, "--types: nothing is left to compare with {}",
          comparison.reference().type.Name());
  CompareReport report{comparison, RowOf(comparison, flags.against)};
  comparison.Score();
  if (comparison.complete() && !flags.no_speed) {
    report.depth = flags.depth >= 0 ? flags.depth : comparison.windows().context;
    MeasureSpeed(flags, report.depth, comparison);
  }
  flags.comparison.json ? PrintCompareJson(report) : PrintCompareTable(report);
  if (!flags.comparison.svg.empty() && comparison.positions() > 0)
    WriteTextFile(flags.comparison.svg, CompareSvg(comparison));
  if (!comparison.complete()) {
    Throw(ErrorCode::kCancelled, "interrupted; the figures cover {} positions",
          comparison.positions());
  }
}

}  // namespace

void AddCompareCommand(Command root) {
  auto flags = std::make_shared<CompareFlags>();
  const Command command = root.AddCommand(
      "compare", "Set cache types side by side on a model and a text: quality, memory, speed");
  AddComparisonFlags(command, flags->comparison);
  const Option types =
      command
          .AddOption("--types", flags->types,
                     "Cache types: TYPE or TYPE_K/TYPE_V, with +OPTION behind, separated by commas "
                     "or blanks; types: auto, " +
                         CodecNames() + "; options: " + CompareOptions())
          .ShowDefault();
  command
      .AddOption("--reference", flags->comparison.reference,
                 "Cache type that the others are measured against")
      .ShowDefault();
  command.AddOption("--against", flags->against,
                    "Type of --types from which differences are taken (default: the first)");
  command
      .AddOption("--depth", flags->depth,
                 "Tokens in the cache when decoding is timed (-1: the context)")
      .ShowDefault();
  command.AddOption("--decode", flags->decode, "Tokens to decode for the timing")
      .Positive()
      .ShowDefault();
  command.AddFlag("--no-speed", flags->no_speed, "Do not time");
  command.OnRun([flags, types] {
    flags->comparison.leave_out = !types.IsGiven();
    Run(*flags);
  });
}

}  // namespace tq::app
