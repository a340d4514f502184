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

void AddNeedleCommand(CLI::App& lab) {
  auto flags = std::make_shared<NeedleFlags>();
  CLI::App* command = lab.add_subcommand(
      "needle", "Needles in a haystack: what cache types do to retrieval, beside f16");
  AddComparisonFlags(*command, flags->comparison);
  for (const char* not_here : {"--ctx-size", "--chunks", "--no-floor"})
    command->remove_option(command->get_option(not_here));
  command
      ->add_option("-c,--ctx-size", flags->contexts,
                   "Contexts in tokens, question included, separated by commas (0: the model's)")
      ->delimiter(',')
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command
      ->add_option("--types", flags->types,
                   "Cache types as `compare` has them; a cache of f16 is always asked too")
      ->capture_default_str();
  command->add_option("--tasks", flags->tasks, "Separated by commas: " + TaskNames())
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--depths", flags->depths, "Needles of a text, evenly spread")
      ->check(CLI::Range(1, 10))
      ->capture_default_str();
  command->add_option("--trials", flags->trials, "Texts per task and context")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("-s,--seed", flags->seed, "Of texts, keys and values")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->callback([flags] { Run(*flags); });
}

}  // namespace tq::app
