// SPDX-License-Identifier: Apache-2.0
// turboquant lab ablation: what each cure of a compressed cache brings, added one after the other
// and left away one at a time. Rows that the page log can express are the product's, the others
// are simulated.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/ablation_plan.h"
#include "apps/compare_report.h"
#include "apps/comparison.h"
#include "apps/lab_commands.h"
#include "apps/table.h"
#include "lab/svg_plot.h"
#include "turboquant/base/version.h"

namespace tq::app {
namespace {

using lab::Estimate;

struct AblationFlags {
  ComparisonFlags comparison;
  int bits = 3;
};

struct AblationRow {
  AblationStep step;
  const ComparisonRow* row;
};

// Steps may share a row: all but the last one added is the full set without the last.
std::vector<AblationRow> RowsOf(const Comparison& comparison,
                                const std::vector<AblationStep>& plan) {
  std::vector<AblationRow> rows;
  for (const AblationStep& step : plan) {
    const std::string name = step.type.Name();
    const auto row = std::find_if(comparison.rows().begin(), comparison.rows().end(),
                                  [&](const ComparisonRow& r) { return r.type.Name() == name; });
    TQ_CHECK(row != comparison.rows().end());
    rows.push_back({step, &*row});
  }
  return rows;
}

const ComparisonRow& FullSet(const std::vector<AblationRow>& rows) {
  const auto found = std::find_if(rows.begin(), rows.end(), [](const AblationRow& r) {
    return r.step.kind == AblationKind::kFull && !r.row->type.IsSimulated();
  });
  TQ_CHECK(found != rows.end());
  return *found->row;
}

void PrintTable(const Comparison& comparison, const std::vector<AblationRow>& rows) {
  fmt::print("{}\n\n", ComparisonTitle(comparison));
  if (comparison.positions() == 0) return;
  const ComparisonRow& full = FullSet(rows);
  Table table({"cures", "as a type", "measured", "KLD mean ± SE", "over the full set", "difference",
               "PPL ratio"},
              2);
  for (const auto& [step, row] : rows) {
    const Estimate kld = Kld(*row), ratio = PerplexityRatio(row->scores),
                   difference = lab::BlockDifference(row->scores.kld, full.scores.kld, kErrorBlock);
    table.AddRow(
        {step.title, row->type.Name(), row->type.IsSimulated() ? "simulated" : "product",
         fmt::format("{:.5f} ± {:.5f}", kld.value, kld.error),
         fmt::format("{:.2f} x", kld.value / Kld(full).value),
         row == &full ? "-" : fmt::format("{:+.5f} ± {:.5f}", difference.value, difference.error),
         fmt::format("{:.4f} ± {:.4f}", ratio.value, ratio.error)});
  }
  fmt::print("{}\nDifferences are paired, their errors over blocks of {} positions.\n",
             table.Text(), kErrorBlock);
  if (const std::string floor = FloorText(comparison); !floor.empty()) fmt::print("{}\n", floor);
}

void PrintJson(const Comparison& comparison, const std::vector<AblationRow>& rows) {
  nlohmann::ordered_json json;
  json["experiment"] = "ablation";
  json["model"] = comparison.engine()->spec().name;
  json["build"] = kBuildCommit;
  json["device"] = comparison.engine()->backend().name();
  json["context"] = comparison.windows().context;
  json["windows"] = comparison.windows().count;
  json["positions"] = comparison.positions();
  json["complete"] = comparison.complete();
  json["rows"] = nlohmann::ordered_json::array();
  for (const auto& [step, row] : rows) {
    nlohmann::ordered_json entry;
    entry["cures"] = step.title;
    entry["type"] = row->type.Name();
    entry["simulated"] = row->type.IsSimulated();
    if (row->scores.size() > 0) {
      const Estimate kld = Kld(*row), ratio = PerplexityRatio(row->scores),
                     difference = lab::BlockDifference(row->scores.kld, FullSet(rows).scores.kld,
                                                       kErrorBlock);
      entry["kld_mean"] = kld.value;
      entry["kld_se"] = kld.error;
      entry["kld_minus_full"] = difference.value;
      entry["kld_minus_full_se"] = difference.error;
      entry["ppl_ratio"] = ratio.value;
      entry["ppl_ratio_se"] = ratio.error;
    }
    json["rows"].push_back(std::move(entry));
  }
  fmt::print("{}\n", json.dump(2));
}

std::string Svg(const Comparison& comparison, const std::vector<AblationRow>& rows, int bits) {
  lab::Plot plot;
  plot.title = fmt::format("Cures of a {}-bit cache: {}, context {}", bits,
                           comparison.engine()->spec().name, comparison.windows().context);
  plot.y_label = "KL divergence from a cache of f16 (mean, ± SE)";
  plot.log_y = true;
  lab::PlotSeries added{"added one after the other", {}, true},
      removed{"left away from the full set", {}, false};
  for (const auto& [step, row] : rows) {
    if (step.kind == AblationKind::kFull && row->type.IsSimulated()) continue;
    const Estimate kld = Kld(*row);
    lab::PlotSeries& series = step.kind == AblationKind::kRemoved ? removed : added;
    series.points.push_back({static_cast<double>(plot.x_names.size()), kld.value, kld.error,
                             fmt::format("{:.2g}", kld.value)});
    plot.x_names.push_back(step.title);
  }
  plot.series = {std::move(added), std::move(removed)};
  return lab::RenderSvg(plot);
}

void Run(const AblationFlags& flags) {
  const std::vector<AblationStep> plan =
      AblationPlan(flags.bits, !flags.comparison.cache.calibration.none);
  std::vector<CompareType> types;
  for (const AblationStep& step : plan) {
    if (std::find(types.begin(), types.end(), step.type) == types.end()) types.push_back(step.type);
  }
  Comparison comparison(flags.comparison, types);
  comparison.Score();
  const std::vector<AblationRow> rows = RowsOf(comparison, plan);
  flags.comparison.json ? PrintJson(comparison, rows) : PrintTable(comparison, rows);
  if (!flags.comparison.svg.empty() && comparison.positions() > 0)
    WriteTextFile(flags.comparison.svg, Svg(comparison, rows, flags.bits));
  if (!comparison.complete()) {
    Throw(ErrorCode::kCancelled, "interrupted; the figures cover {} positions",
          comparison.positions());
  }
}

}  // namespace

void AddAblationCommand(Command lab) {
  auto flags = std::make_shared<AblationFlags>();
  const Command command = lab.AddCommand(
      "ablation", "What centring, sinks, window, key transform and trellis bring, one by one");
  AddComparisonFlags(command, flags->comparison);
  command.AddOption("--bits", flags->bits, "Bits of the codes of keys and values")
      .Between(2, 4)
      .ShowDefault();
  command.OnRun([flags] { Run(*flags); });
}

}  // namespace tq::app
