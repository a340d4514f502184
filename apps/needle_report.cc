// SPDX-License-Identifier: Apache-2.0
#include "apps/needle_report.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "apps/table.h"
#include "lab/heat_map.h"
#include "turboquant/base/version.h"

namespace tq::app {
namespace {

using Json = nlohmann::ordered_json;
using lab::NeedleScore;
using lab::NeedleSummary;

// The reference first.
std::vector<const ComparisonRow*> RowsOf(const NeedleRun& run) {
  std::vector<const ComparisonRow*> rows = {&run.caches().reference()};
  for (const ComparisonRow& row : run.caches().rows()) rows.push_back(&row);
  return rows;
}

std::vector<NeedleScore> AtDepth(const std::vector<NeedleScore>& scores, int depth) {
  std::vector<NeedleScore> kept;
  for (const NeedleScore& score : scores) {
    if (score.depth == depth) kept.push_back(score);
  }
  return kept;
}

std::string PercentOf(double share) { return fmt::format("{:.0f} %", 100 * share); }

void PrintCell(const NeedleRun& run, lab::NeedleTask task, int context) {
  const ComparisonRow& reference = run.caches().reference();
  const std::string against = reference.type.Name();
  Table table({"cache type (K / V)", "bits/value", "found", "share [95 %]", "share - " + against,
               "ln p ± SE", "ln p - " + against, "median rank"});
  for (const ComparisonRow* row : RowsOf(run)) {
    const NeedleSummary summary = lab::SummariseNeedles(run.Scores(*row, task, context));
    const lab::Share share = summary.share();
    const auto difference = run.Difference(*row, task, context);
    const bool is_reference = row == &reference;
    table.AddRow({row->type.Name() + (row->type.IsSimulated() ? " (simulated)" : ""),
                  fmt::format("{:.3f}", row->bits_per_value),
                  fmt::format("{}/{}", summary.found, summary.asked),
                  fmt::format("{} [{}, {}]", PercentOf(share.value), PercentOf(share.low),
                              PercentOf(share.high)),
                  is_reference ? "-"
                               : fmt::format("{:+.3f} ± {:.3f}", difference.share.value,
                                             difference.share.error),
                  fmt::format("{:.2f} ± {:.2f}", summary.log_prob.value, summary.log_prob.error),
                  is_reference ? "-"
                               : fmt::format("{:+.3f} ± {:.3f}", difference.log_prob.value,
                                             difference.log_prob.error),
                  fmt::format("{:g}", summary.median_rank)});
  }
  fmt::print("\n{}, context {}\n{}", lab::NameOf(task), context, table.Text());
}

Json CellJson(const NeedleRun& run, const ComparisonRow& row, lab::NeedleTask task, int context) {
  const std::vector<NeedleScore> scores = run.Scores(row, task, context);
  const auto figures = [](const std::vector<NeedleScore>& of) {
    const NeedleSummary summary = lab::SummariseNeedles(of);
    Json json;
    json["found"] = summary.found;
    json["asked"] = summary.asked;
    json["share"] = summary.share().value;
    json["share_low"] = summary.share().low;
    json["share_high"] = summary.share().high;
    json["log_prob"] = summary.log_prob.value;
    json["log_prob_se"] = summary.log_prob.error;
    json["median_rank"] = summary.median_rank;
    return json;
  };
  Json json;
  json["task"] = lab::NameOf(task);
  json["context"] = context;
  json.update(figures(scores));
  if (&row != &run.caches().reference()) {
    const lab::NeedleDifference difference = run.Difference(row, task, context);
    json["share_difference"] = difference.share.value;
    json["share_difference_se"] = difference.share.error;
    json["log_prob_difference"] = difference.log_prob.value;
    json["log_prob_difference_se"] = difference.log_prob.error;
  }
  for (int depth = 0; depth < run.maker().depths(); ++depth) {
    Json cell;
    cell["depth"] = run.maker().Depth(depth);
    cell.update(figures(AtDepth(scores, depth)));
    json["depths"].push_back(std::move(cell));
  }
  return json;
}

}  // namespace

void PrintNeedleTable(const NeedleRun& run) {
  fmt::print("{}, {} trials, {} depths, text of {} tokens; keys {}\n",
             run.caches().engine()->spec().name, run.trials(), run.maker().depths(),
             run.maker().text_tokens(),
             run.caches().calibration_id() == 0 ? "not calibrated" : "calibrated");
  if (run.trials() == 0) return;
  for (const lab::NeedleTask task : run.tasks()) {
    for (const int context : run.contexts()) PrintCell(run, task, context);
  }
  fmt::print(
      "\nfound: greedy decoding gives all digits. ln p: of the digits, each after the right ones "
      "before it; rank: the worst of a value's digits, 1 is the likeliest. Differences are paired, "
      "their standard errors (±) over trials; intervals are Wilson's and take answers for "
      "independent.\n");
}

void PrintNeedleJson(const NeedleRun& run) {
  Json json;
  json["model"] = run.caches().engine()->spec().name;
  json["build"] = kBuildCommit;
  json["device"] = run.caches().engine()->backend().name();
  json["precision"] = run.flags().comparison.step.fast ? "fast" : "precise";
  json["calibration"] = run.caches().calibration_id() != 0;
  json["text_tokens"] = run.maker().text_tokens();
  json["seed"] = run.flags().seed;
  json["trials"] = run.trials();
  json["complete"] = run.complete();
  json["rows"] = Json::array();
  for (const ComparisonRow* row : RowsOf(run)) {
    Json entry;
    entry["name"] = row->type.Name();
    entry["type_k"] = row->type.k;
    entry["type_v"] = row->type.v;
    entry["reference"] = row == &run.caches().reference();
    entry["simulated"] = row->type.IsSimulated();
    entry["bits_per_value"] = row->bits_per_value;
    entry["cells"] = Json::array();
    for (const lab::NeedleTask task : run.tasks()) {
      for (const int context : run.contexts()) {
        if (run.trials() > 0) entry["cells"].push_back(CellJson(run, *row, task, context));
      }
    }
    json["rows"].push_back(std::move(entry));
  }
  fmt::print("{}\n", json.dump(2));
}

std::string NeedleSvg(const NeedleRun& run) {
  lab::HeatMap map;
  map.title = fmt::format("Needles found: {}, {} trials a cell", run.caches().engine()->spec().name,
                          run.trials());
  map.x_label = "context in tokens";
  map.y_label = "depth";
  for (const int context : run.contexts()) map.x_names.push_back(fmt::format("{}", context));
  for (int depth = 0; depth < run.maker().depths(); ++depth)
    map.y_names.push_back(PercentOf(run.maker().Depth(depth)));
  const std::vector<const ComparisonRow*> rows = RowsOf(run);
  constexpr size_t kMostPerRow = 4;
  map.panels_per_row = static_cast<int>(std::min(rows.size(), kMostPerRow));
  for (const lab::NeedleTask task : run.tasks()) {
    for (const ComparisonRow* row : rows) {
      lab::HeatPanel panel{fmt::format("{}: {}", lab::NameOf(task), row->type.Name()), {}};
      panel.values.resize(map.y_names.size());
      for (const int context : run.contexts()) {
        const std::vector<NeedleScore> scores = run.Scores(*row, task, context);
        for (int depth = 0; depth < run.maker().depths(); ++depth)
          panel.values[static_cast<size_t>(depth)].push_back(
              lab::SummariseNeedles(AtDepth(scores, depth)).share().value);
      }
      map.panels.push_back(std::move(panel));
    }
  }
  return lab::RenderHeatMap(map);
}

}  // namespace tq::app
