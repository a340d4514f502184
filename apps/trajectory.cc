// SPDX-License-Identifier: Apache-2.0
// turboquant lab trajectory: after how many tokens a reply differs from the one with an f16 cache.
#include "lab/trajectory.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "apps/comparison.h"
#include "apps/interrupt.h"
#include "apps/lab_commands.h"
#include "apps/progress.h"
#include "apps/table.h"
#include "lab/builtin_text.h"
#include "turboquant/base/version.h"

namespace tq::app {
namespace {

using Json = nlohmann::ordered_json;
using Tokens = std::vector<TokenId>;

struct TrajectoryFlags {
  ComparisonFlags comparison;
  std::vector<std::string> types = {
      "f32,q8_0,turbo8,turbo4,turbo4_tcq/turbo3_tcq,turbo3_tcq,turbo3,turbo2_tcq,turbo2"};
  int context = 512;
  int tokens = 64;
};

class TrajectoryRun {
 public:
  TrajectoryRun(const ModelAndText& loaded, lab::TextWindows prompts, const TrajectoryFlags& flags)
      : flags_(flags),
        prompts_(std::move(prompts)),
        caches_(loaded.engine, flags.comparison, ParseCompareTypes(flags.types)) {
    rows_.push_back(&caches_.reference());
    for (const ComparisonRow& row : caches_.rows()) rows_.push_back(&row);
    sources_.resize(rows_.size());
    lab::ResultFacts facts = caches_.Facts();
    facts.emplace_back("text_hash", loaded.text_hash);
    facts.emplace_back("context", fmt::format("{}", flags.context));
    facts.emplace_back("tokens", fmt::format("{}", flags.tokens));
    if (flags.comparison.output.empty()) return;
    file_.emplace(flags.comparison.output, "lab trajectory", facts, [&](const std::string& line) {
      const Json json = Json::parse(line);
      json.at("tokens").get_to(replies_[{json.at("type"), json.at("prompt")}]);
    });
  }

  // Stops early on Ctrl-C.
  void Generate() {
    Progress bar(fmt::format("generating with {} caches", rows_.size()), Progress::Unit::kTokens);
    const auto each =
        static_cast<uint64_t>(flags_.context) + static_cast<uint64_t>(flags_.tokens) - 1;
    const uint64_t total = each * rows_.size() * static_cast<uint64_t>(prompts_.count);
    uint64_t done = 0;
    lab::TrajectoryOptions options;
    options.tokens = flags_.tokens;
    options.batch = std::min(flags_.comparison.step.batch, flags_.comparison.step.ubatch);
    options.on_fed = [&](int64_t tokens) {
      ThrowIfInterrupted();
      bar.Update(done += static_cast<uint64_t>(tokens), total);
    };
    try {
      for (; done_ < prompts_.count; ++done_) {
        for (size_t i = 0; i < rows_.size(); ++i) {
          const std::pair key{caches_.KeyOf(*rows_[i]), done_};
          if (replies_.contains(key)) {
            done += each;
            continue;
          }
          if (sources_[i] == nullptr) sources_[i] = caches_.MakeSource(*rows_[i]);
          Tokens reply = lab::GreedyTokens(*sources_[i], prompts_.Input(done_), options);
          if (file_)
            file_->Add(Json{{"type", key.first}, {"prompt", key.second}, {"tokens", reply}}.dump());
          replies_[key] = std::move(reply);
        }
      }
      bar.Done();
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kCancelled) throw;
    }
  }

  lab::TrajectorySummary Of(const ComparisonRow& row) const {
    std::vector<lab::TrajectoryPair> pairs;
    for (int prompt = 0; prompt < done_; ++prompt)
      pairs.push_back(
          lab::CompareTrajectories(replies_.at({caches_.KeyOf(caches_.reference()), prompt}),
                                   replies_.at({caches_.KeyOf(row), prompt})));
    return lab::SummariseTrajectories(pairs);
  }
  const ComparedCaches& caches() const { return caches_; }
  int done() const { return done_; }
  bool complete() const { return done_ == prompts_.count; }

 private:
  const TrajectoryFlags& flags_;
  lab::TextWindows prompts_;
  ComparedCaches caches_;
  std::vector<const ComparisonRow*> rows_;  // the reference first
  std::vector<std::unique_ptr<lab::SessionLogits>> sources_;
  std::map<std::pair<std::string, int>, Tokens> replies_;  // by row and prompt
  std::optional<lab::ResultsFile> file_;
  int done_ = 0;  // prompts that every row has a reply to
};

void PrintTable(const TrajectoryRun& run, const TrajectoryFlags& flags) {
  fmt::print("{}, {} prompts of {} tokens, {} generated after each, against a cache of f16\n",
             run.caches().engine()->spec().name, run.done(), flags.context, flags.tokens);
  if (run.done() == 0) return;
  Table table({"cache type (K / V)", "bits/value", "tokens before the first difference ± SE",
               "median", "same throughout", "share [95 %]", "same tokens ± SE"});
  for (const ComparisonRow& row : run.caches().rows()) {
    const lab::TrajectorySummary s = run.Of(row);
    const lab::Share share = s.share_same();
    table.AddRow(
        {row.type.Name() + (row.type.IsSimulated() ? " (simulated)" : ""),
         fmt::format("{:.3f}", row.bits_per_value),
         fmt::format("{:.1f} ± {:.1f}", s.first_difference.value, s.first_difference.error),
         fmt::format("{:g}", s.median_first_difference), fmt::format("{}/{}", s.same, s.prompts),
         fmt::format("{:.0f} % [{:.0f} %, {:.0f} %]", 100 * share.value, 100 * share.low,
                     100 * share.high),
         fmt::format("{:.1f} % ± {:.1f}", 100 * s.agreement.value, 100 * s.agreement.error)});
  }
  fmt::print(
      "\n{}\nOne differing token changes all that follow: agreement afterwards is chance. {} "
      "tokens "
      "before the first difference means none.\n",
      table.Text(), flags.tokens);
}

void PrintJson(const TrajectoryRun& run, const TrajectoryFlags& flags) {
  Json json;
  json["model"] = run.caches().engine()->spec().name;
  json["build"] = kBuildCommit;
  json["device"] = run.caches().engine()->backend().name();
  json["context"] = flags.context;
  json["tokens"] = flags.tokens;
  json["prompts"] = run.done();
  json["complete"] = run.complete();
  json["rows"] = Json::array();
  for (const ComparisonRow& row : run.caches().rows()) {
    const lab::TrajectorySummary s = run.Of(row);
    json["rows"].push_back({{"name", row.type.Name()},
                            {"simulated", row.type.IsSimulated()},
                            {"bits_per_value", row.bits_per_value},
                            {"first_difference", s.first_difference.value},
                            {"first_difference_se", s.first_difference.error},
                            {"first_difference_median", s.median_first_difference},
                            {"same_throughout", s.same},
                            {"agreement", s.agreement.value},
                            {"agreement_se", s.agreement.error}});
  }
  fmt::print("{}\n", json.dump(2));
}

void Run(TrajectoryFlags flags) {
  ComparisonFlags& comparison = flags.comparison;
  comparison.no_floor = true;
  comparison.step.context = flags.context + flags.tokens;
  const std::string text =
      HasText(comparison.text) ? ReadText(comparison.text) : std::string(lab::BuiltinText());
  const ModelAndText loaded = Tokenised(LoadEngine(comparison.model), text);
  TrajectoryRun run(loaded,
                    lab::MakeWindows(loaded.tokens, loaded.engine->tokenizer().special(),
                                     flags.context, comparison.chunks, 1),
                    flags);
  run.Generate();
  comparison.json ? PrintJson(run, flags) : PrintTable(run, flags);
  if (!run.complete())
    Throw(ErrorCode::kCancelled, "interrupted; the figures cover {} prompts", run.done());
}

}  // namespace

void AddTrajectoryCommand(Command lab) {
  auto flags = std::make_shared<TrajectoryFlags>();
  flags->comparison.chunks = 20;
  const Command command = lab.AddCommand(
      "trajectory", "Greedy replies: where those of cache types leave the one with f16");
  AddComparisonFlags(command, flags->comparison);
  for (const char* not_here : {"--ctx-size", "--svg", "--no-floor"}) command.RemoveOption(not_here);
  command.AddOption("-c,--ctx-size", flags->context, "Tokens of a prompt, a piece of the text")
      .Between(4, 1 << 24)
      .ShowDefault();
  command.AddOption("-n,--predict", flags->tokens, "Tokens to generate after each prompt")
      .Between(1, 1 << 24)
      .ShowDefault();
  command
      .AddOption("--types", flags->types,
                 "Cache types as `compare` has them, against a cache of f16")
      .ShowDefault();
  command.OnRun([flags] { Run(*flags); });
}

}  // namespace tq::app
