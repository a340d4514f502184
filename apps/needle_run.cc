// SPDX-License-Identifier: Apache-2.0
#include "apps/needle_run.h"

#include <fmt/format.h>

#include <algorithm>

#include "apps/interrupt.h"
#include "apps/progress.h"

namespace tq::app {
namespace {

std::vector<lab::NeedleTask> TasksOf(const NeedleFlags& flags) {
  std::vector<lab::NeedleTask> tasks;
  for (const std::string& name : flags.tasks) {
    const lab::NeedleTask task = lab::ParseNeedleTask(name);
    if (std::ranges::find(tasks, task) == tasks.end()) tasks.push_back(task);
  }
  return tasks;
}

// Refuses what does not fit before anything takes time.
lab::NeedleMaker MakerOf(const Engine& engine, const std::string& text, const NeedleFlags& flags) {
  lab::NeedleMaker maker(engine.tokenizer(), text, flags.depths, static_cast<uint64_t>(flags.seed));
  for (const lab::NeedleTask task : TasksOf(flags)) maker.Prompts(task, flags.contexts.front(), 0);
  return maker;
}

}  // namespace

NeedleFlags Resolve(NeedleFlags flags, const Engine& engine) {
  const int64_t most = engine.spec().context;
  std::vector<int> contexts;
  for (int context : flags.contexts) {
    if (context == 0) context = static_cast<int>(most);
    if (context < 0 || context > most) {
      Throw(ErrorCode::kInvalidArgument, "-c {}: {} has a context of {} tokens", context,
            engine.spec().name, most);
    }
    if (std::ranges::find(contexts, context) == contexts.end()) contexts.push_back(context);
  }
  if (contexts.empty()) Throw(ErrorCode::kInvalidArgument, "-c: give a context in tokens");
  std::ranges::sort(contexts);
  flags.contexts = contexts;
  flags.comparison.step.context = contexts.back();
  flags.comparison.no_floor = true;
  return flags;
}

NeedleRun::NeedleRun(std::shared_ptr<const Engine> engine, const std::string& text,
                     const NeedleFlags& flags)
    : flags_(flags),
      tasks_(TasksOf(flags)),
      maker_(MakerOf(*engine, text, flags)),
      caches_(std::move(engine), flags.comparison, ParseCompareTypes(flags.types)),
      results_(flags.comparison.output, Facts(text)) {
  asked_.push_back(&caches_.reference());
  for (const ComparisonRow& row : caches_.rows()) asked_.push_back(&row);
  sources_.resize(asked_.size());
}

lab::ResultFacts NeedleRun::Facts(const std::string& text) const {
  lab::ResultFacts facts = caches_.Facts();
  facts.emplace_back("text_hash", TextHash(text));
  facts.emplace_back("depths", fmt::format("{}", flags_.depths));
  facts.emplace_back("seed", fmt::format("{}", flags_.seed));
  return facts;
}

void NeedleRun::Ask() {
  Progress bar(fmt::format("asking {} caches", asked_.size()), Progress::Unit::kTokens);
  while (trials_ < flags_.trials && !Interrupted()) {
    try {
      AskTrial(trials_, bar);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kCancelled) throw;
      return;
    }
    ++trials_;
  }
  if (complete()) bar.Done();
}

void NeedleRun::AskTrial(int trial, Progress& bar) {
  uint64_t round = 0;  // tokens of a trial, about
  for (const lab::NeedleTask task : tasks_) {
    for (const int context : contexts())
      round += static_cast<uint64_t>(context) *
               static_cast<uint64_t>(task == lab::NeedleTask::kSingle ? flags_.depths : 1);
  }
  round *= asked_.size();
  lab::NeedleOptions options;
  options.batch = std::min(flags_.comparison.step.batch, flags_.comparison.step.ubatch);
  options.on_fed = [&](int64_t tokens) {
    ThrowIfInterrupted();
    fed_ += static_cast<uint64_t>(tokens);
    bar.Update(fed_, round * static_cast<uint64_t>(flags_.trials));
  };
  for (const lab::NeedleTask task : tasks_) {
    for (const int context : contexts()) {
      const std::vector<lab::NeedlePrompt> prompts = maker_.Prompts(task, context, trial);
      for (size_t i = 0; i < asked_.size(); ++i) {
        const std::string key = caches_.KeyOf(*asked_[i]);
        if (results_.Find(key, {task, context, trial}) != nullptr) {
          fed_ += static_cast<uint64_t>(context) * prompts.size();
          continue;
        }
        if (sources_[i] == nullptr) sources_[i] = caches_.MakeSource(*asked_[i]);
        std::vector<lab::NeedleScore> scores;
        for (const lab::NeedlePrompt& prompt : prompts) {
          const auto more =
              lab::AskNeedles(*sources_[i], prompt, caches_.engine()->tokenizer(), options);
          scores.insert(scores.end(), more.begin(), more.end());
        }
        results_.Add(key, {task, context, trial}, std::move(scores));
      }
    }
  }
}

std::vector<lab::NeedleScore> NeedleRun::Scores(const ComparisonRow& row, lab::NeedleTask task,
                                                int context) const {
  std::vector<lab::NeedleScore> scores;
  for (int trial = 0; trial < trials_; ++trial) {
    const auto* found = results_.Find(caches_.KeyOf(row), {task, context, trial});
    TQ_CHECK(found != nullptr);
    scores.insert(scores.end(), found->begin(), found->end());
  }
  return scores;
}

lab::NeedleDifference NeedleRun::Difference(const ComparisonRow& row, lab::NeedleTask task,
                                            int context) const {
  return lab::CompareNeedles(Scores(row, task, context), Scores(caches_.reference(), task, context),
                             flags_.depths);
}

}  // namespace tq::app
