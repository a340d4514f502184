// SPDX-License-Identifier: Apache-2.0
// turboquant lab report: what `lab run` measured, as a page and as JSON.
#include <fmt/format.h>

#include <memory>

#include "apps/compare_report.h"
#include "apps/lab_commands.h"
#include "apps/lab_page.h"

namespace tq::app {
namespace {

struct LabReportFlags {
  std::string input, output, json;
};

void Report(const LabReportFlags& flags) {
  if (flags.output.empty() && flags.json.empty())
    Throw(ErrorCode::kInvalidArgument, "give the page to write with -o FILE, or --json FILE");
  const std::filesystem::path input =
      flags.input.empty() ? DefaultLabFile() : std::filesystem::path(flags.input);
  const std::vector<LabRecord> records = NewestRecords(ReadLabFile(input));
  if (records.empty()) {
    Throw(ErrorCode::kNotFound, "{}: there are no figures; run `turboquant lab run all --quick`",
          input.string());
  }
  if (!flags.output.empty()) WriteTextFile(flags.output, LabPage(records));
  if (!flags.json.empty()) WriteTextFile(flags.json, LabJson(records));
  fmt::print(stderr, "{} results of {}\n", records.size(), input.string());
}

}  // namespace

void AddLabReportCommand(Command lab) {
  auto flags = std::make_shared<LabReportFlags>();
  const Command command =
      lab.AddCommand("report", "The figures of `lab run` as one HTML page, or JSON");
  command.AddOption("-i,--input", flags->input, "File of figures (default: the one of `lab run`)");
  command.AddOption("-o,--output", flags->output, "HTML file to write");
  command.AddOption("--json", flags->json, "JSON file to write");
  command.OnRun([flags] { Report(*flags); });
}

}  // namespace tq::app
