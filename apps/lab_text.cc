// SPDX-License-Identifier: Apache-2.0
#include "apps/lab_text.h"

#include <fmt/format.h>

#include "apps/table.h"

namespace tq::app {
namespace {

std::string Line(std::string_view name, std::string_view text) {
  return fmt::format("  {:<11}{}\n", name, text);
}

// What the row's name and figure leave open.
std::string DetailText(const lab::Experiment& experiment, const MeasuredRow& row) {
  const bool told =
      experiment.measure == lab::Measure::kSpeed || experiment.measure == lab::Measure::kRetrieval;
  std::string text = told ? row.detail : "";
  if (row.simulated) text += text.empty() ? "simulated" : "; simulated";
  return text;
}

}  // namespace

std::string FigureText(const std::string& unit, double value) {
  return unit == "KLD"  ? fmt::format("{:.5f}", value)
         : unit == "dB" ? fmt::format("{:.3f}", value)
                        : fmt::format("{:.4g}", value);
}

std::string EstimateText(const std::string& unit, const lab::Estimate& estimate) {
  return FigureText(unit, estimate.value) + " ± " + FigureText(unit, estimate.error);
}

std::string ClaimText(const std::string& unit, const MeasuredClaim& claim) {
  std::string text = fmt::format("{} is {} {}", claim.a, claim.relation, claim.b);
  if (!claim.verdict) return text;
  text += fmt::format(": better by {}", EstimateText(unit, claim.gain));
  if (claim.margin > 0) text += fmt::format(", margin {}", FigureText(unit, claim.margin));
  return text;
}

std::string ExperimentText(const lab::Experiment& e) {
  std::string text = fmt::format("{}  {}\n", e.id, e.title);
  text += Line("hypothesis", e.hypothesis);
  text += Line("published", fmt::format("{} [{}]", e.published, e.source));
  text += Line("their view", e.verdict);
  if (e.measure == lab::Measure::kNone) {
    text += Line("verdict", fmt::format("not runnable here: {}; nearest: {}", e.reason, e.nearest));
    text += '\n';
  }
  return text;
}

std::string RecordText(const lab::Experiment& experiment, const LabRecord& record) {
  const LabConditions& c = record.conditions;
  std::string text = Line("ours", fmt::format("{}: {}{}{}; {}; {}, {}", record.unit, c.model,
                                              c.model.empty() ? "" : ", ", record.extent, c.device,
                                              c.build, record.date));
  Table table({"", "bits/value", record.unit + " ± SE", ""}, 1);
  for (const MeasuredRow& row : record.rows) {
    table.AddRow({"    " + row.name,
                  row.bits_per_value > 0 ? fmt::format("{:.3f}", row.bits_per_value) : "-",
                  EstimateText(record.unit, row.figure), DetailText(experiment, row)});
  }
  if (!record.rows.empty()) text += table.Text();
  for (const MeasuredClaim& claim : record.claims) {
    text += Line("claim", fmt::format("{}: {} ({})",
                                      claim.verdict ? lab::NameOf(*claim.verdict) : "not measured",
                                      claim.text, ClaimText(record.unit, claim)));
  }
  if (!record.note.empty()) text += Line("note", record.note);
  text += Line("verdict", record.Verdict());
  text += Line("command", record.command);
  return text + '\n';
}

}  // namespace tq::app
