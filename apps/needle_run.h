// SPDX-License-Identifier: Apache-2.0
// Needles asked of several caches, the same of each. What was asked is kept in a file, if one is
// named, and not asked again.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "apps/comparison.h"
#include "lab/needle_file.h"

namespace tq::app {

struct NeedleFlags {
  ComparisonFlags comparison;  // its context is the longest of these
  std::vector<std::string> types = {
      "q8_0,turbo4,turbo4_tcq/turbo3_tcq,turbo3_tcq,turbo3,turbo2_tcq,turbo2"};
  std::vector<std::string> tasks = {"multi-key"};
  std::vector<int> contexts = {2048};
  int depths = 5;
  int trials = 20;
  int64_t seed = 1;
};

class NeedleRun {
 public:
  // Throws kInvalidArgument for a context that the model or the needles do not fit.
  NeedleRun(std::shared_ptr<const Engine> engine, const std::string& text,
            const NeedleFlags& flags);

  void Ask();  // stops early on Ctrl-C

  const NeedleFlags& flags() const { return flags_; }
  const ComparedCaches& caches() const { return caches_; }
  const lab::NeedleMaker& maker() const { return maker_; }
  const std::vector<lab::NeedleTask>& tasks() const { return tasks_; }
  const std::vector<int>& contexts() const { return flags_.contexts; }
  int trials() const { return trials_; }  // that all caches were asked
  bool complete() const { return trials_ == flags_.trials; }

  // Of those trials, in order. A trial gives as many scores as there are depths.
  std::vector<lab::NeedleScore> Scores(const ComparisonRow& row, lab::NeedleTask task,
                                       int context) const;
  // Differences from the reference, paired.
  lab::NeedleDifference Difference(const ComparisonRow& row, lab::NeedleTask task,
                                   int context) const;

 private:
  lab::ResultFacts Facts(const std::string& text) const;
  void AskTrial(int trial, class Progress& bar);

  const NeedleFlags& flags_;
  std::vector<lab::NeedleTask> tasks_;
  lab::NeedleMaker maker_;
  ComparedCaches caches_;
  lab::NeedleResults results_;
  std::vector<const ComparisonRow*> asked_;                   // the reference first
  std::vector<std::unique_ptr<lab::SessionLogits>> sources_;  // of those; made when needed
  uint64_t fed_ = 0;
  int trials_ = 0;
};

// Flags with contexts resolved (0: the model's) and the longest of them as the caches' own.
NeedleFlags Resolve(NeedleFlags flags, const Engine& engine);

}  // namespace tq::app
