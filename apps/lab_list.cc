// SPDX-License-Identifier: Apache-2.0
// turboquant lab list: the experiments there are, what was published of them, what runs here.
#include <fmt/format.h>

#include "apps/experiment_rows.h"
#include "apps/lab_commands.h"
#include "apps/table.h"
#include "lab/experiments/experiment.h"

namespace tq::app {
namespace {

std::string RunsHere(const lab::Experiment& experiment) {
  if (experiment.measure == lab::Measure::kNone)
    return fmt::format("no: {}; nearest {}", experiment.reason, experiment.nearest);
  for (const std::string& row : lab::RowsOf(experiment)) {
    if (WhyNotInBuild(experiment.measure, row)) return fmt::format("in part: not {}", row);
  }
  return fmt::format("yes: {}", lab::UnitOf(experiment.measure));
}

void List() {
  for (const lab::Experiment& e : lab::Experiments()) {
    fmt::print(
        "{}  {}\n  hypothesis {}\n  published  {}\n  verdict    {}\n  source     {}\n  runs       "
        "{}\n\n",
        e.id, e.title, e.hypothesis, e.published, e.verdict, e.source, RunsHere(e));
  }
  fmt::print("Figures are their publishers'. Sources:\n");
  Table table({"tag", "stands for"}, 2);
  for (const lab::Source& source : lab::Sources())
    table.AddRow({std::string(source.tag), std::string(source.meaning)});
  fmt::print("{}", table.Text());
}

}  // namespace

void AddLabListCommand(Command lab) {
  lab.AddCommand("list", "Published experiments: hypothesis, figure, verdict, what runs here")
      .OnRun(List);
}

}  // namespace tq::app
