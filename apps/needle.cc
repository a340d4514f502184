// SPDX-License-Identifier: Apache-2.0
// turboquant lab needle: what a cache type does to finding things again in a long context.
#include <fmt/format.h>

#include <memory>

#include "apps/compare_report.h"
#include "apps/lab_commands.h"
#include "apps/needle_report.h"
#include "lab/builtin_text.h"

namespace tq::app {
namespace {

void Run(const NeedleFlags& given) {
  const std::string text = HasText(given.comparison.text) ? ReadText(given.comparison.text)
                                                          : std::string(lab::BuiltinText());
  const std::shared_ptr<const Engine> engine = LoadEngine(given.comparison.model);
  const NeedleFlags flags = Resolve(given, *engine);
  NeedleRun run(engine, text, flags);
  if (run.maker().text_tokens() < flags.contexts.back()) {
    fmt::print(stderr, "the text has {} tokens and repeats within a context of {} (-f FILE)\n",
               run.maker().text_tokens(), flags.contexts.back());
  }
  run.Ask();
  flags.comparison.json ? PrintNeedleJson(run) : PrintNeedleTable(run);
  if (!flags.comparison.svg.empty() && run.trials() > 0)
    WriteTextFile(flags.comparison.svg, NeedleSvg(run));
  if (!run.complete())
    Throw(ErrorCode::kCancelled, "interrupted; the figures cover {} trials", run.trials());
}

std::string TaskNames() {
  std::string text;
  for (const lab::NeedleTaskInfo& info : lab::kNeedleTasks)
    text += fmt::format("{}{} ({})", text.empty() ? "" : "; ", info.name, info.summary);
  return text;
}

}  // namespace

void AddNeedleCommand(Command lab) {
  auto flags = std::make_shared<NeedleFlags>();
  const Command command = lab.AddCommand(
      "needle", "Needles in a haystack: what cache types do to retrieval, beside f16");
  AddComparisonFlags(command, flags->comparison);
  for (const char* not_here : {"--ctx-size", "--chunks", "--no-floor"})
    command.RemoveOption(not_here);
  command
      .AddOption("-c,--ctx-size", flags->contexts,
                 "Contexts in tokens, question included, separated by commas (0: the model's)")
      .SplitAt(',')
      .NonNegative()
      .ShowDefault();
  command
      .AddOption("--types", flags->types,
                 "Cache types as `compare` has them; a cache of f16 is always asked too")
      .ShowDefault();
  command.AddOption("--tasks", flags->tasks, "Separated by commas: " + TaskNames())
      .SplitAt(',')
      .ShowDefault();
  command.AddOption("--depths", flags->depths, "Needles of a text, evenly spread")
      .Between(1, 10)
      .ShowDefault();
  command.AddOption("--trials", flags->trials, "Texts per task and context")
      .Positive()
      .ShowDefault();
  command.AddOption("-s,--seed", flags->seed, "Of texts, keys and values")
      .NonNegative()
      .ShowDefault();
  command.OnRun([flags] { Run(*flags); });
}

}  // namespace tq::app
