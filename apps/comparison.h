// SPDX-License-Identifier: Apache-2.0
// Cache types set beside one reference, and scored against it on a text: what `compare` and `lab
// ablation` run. Work done is kept in a file, if one is named, and not done again.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "apps/common_flags.h"
#include "apps/compare_types.h"
#include "apps/text_input.h"
#include "lab/compare_file.h"
#include "lab/session_logits.h"
#include "lab/simulation/simulated_cache.h"

namespace tq::app {

struct ComparisonFlags {
  ModelFlags model;
  CacheFlags cache;
  StepFlags step;
  TextFlags text;
  int chunks = 4;
  std::string reference = "f16";
  std::string output;  // results so far; may be empty
  bool no_floor = false;
  bool leave_out = false;  // types that the device does not run, instead of refusing them
  bool json = false;
  std::string svg;
};
// All of them but the reference.
void AddComparisonFlags(Command command, ComparisonFlags& flags);

// One cache of a comparison.
struct ComparisonRow {
  CompareType asked;  // as it was given
  CompareType type;   // as it is: canonical names, options that change nothing left away
  CachePolicy policy;
  double bits_per_value = 0;
  double bytes_per_token = 0;
  double decode_rate = 0;  // tok/s; 0: not measured
  lab::DivergenceScores scores;
};

// Positions of a block: neighbours of a text are not independent samples.
inline constexpr int kErrorBlock = 64;
// A floor above this hides what is to be measured.
inline constexpr double kMostFloor = 2e-4;

// The caches themselves, on a loaded model.
class ComparedCaches {
 public:
  // The row of an f32 cache, the floor, is added where the reference is f16, the device runs it and
  // --no-floor is not given.
  ComparedCaches(std::shared_ptr<const Engine> engine, const ComparisonFlags& flags,
                 const std::vector<CompareType>& types);

  const ComparisonFlags& flags() const { return flags_; }
  const std::shared_ptr<const Engine>& engine() const { return engine_; }
  ComparisonRow& reference() { return reference_; }
  const ComparisonRow& reference() const { return reference_; }
  std::vector<ComparisonRow>& rows() { return rows_; }
  const std::vector<ComparisonRow>& rows() const { return rows_; }
  const ComparisonRow* Find(const CompareType& asked) const;  // null if it was left out
  const ComparisonRow* floor() const;                         // null if there is none
  uint64_t calibration_id() const { return calibration_ == nullptr ? 0 : calibration_->id; }
  // What the row's keys are stored with; null: nothing.
  std::shared_ptr<const Calibration> CalibrationOf(const ComparisonRow& row) const;

  // Logits of the model with that cache. May refer to this object.
  std::unique_ptr<lab::SessionLogits> MakeSource(const ComparisonRow& row);
  // Everything that the scores of a row depend on and that rows differ in.
  std::string KeyOf(const ComparisonRow& row) const;
  // The rest of it, which rows share.
  lab::ResultFacts Facts() const;

 private:
  // Says on stderr why not.
  bool Runs(const ComparisonRow& row) const;
  static CachePolicy HeldPolicy(const ComparisonRow& row);
  ComparisonRow MakeRow(const CompareType& type) const;
  lab::SimulatedCache Simulated(const ComparisonRow& row);

  // The command's flags without ages: those are for the rows that they change.
  CacheFlags CacheShape() const;

  const ComparisonFlags& flags_;
  std::shared_ptr<const Engine> engine_;
  ComparisonRow reference_;
  std::vector<ComparisonRow> rows_;
  std::shared_ptr<const Calibration> calibration_;
  std::vector<std::unique_ptr<const KeyMapSet>> simulated_maps_;
};

struct ModelAndText {
  std::shared_ptr<const Engine> engine;
  std::vector<TokenId> tokens;
  std::string text_hash;
};
ModelAndText Tokenised(std::shared_ptr<const Engine> engine, const std::string& text);
std::string TextHash(const std::string& text);

class Comparison : public ComparedCaches {
 public:
  // Loads model and text.
  Comparison(const ComparisonFlags& flags, const std::vector<CompareType>& types);
  Comparison(const ModelAndText& loaded, const ComparisonFlags& flags,
             const std::vector<CompareType>& types);

  // Scores every row; stops early on Ctrl-C.
  void Score();

  const lab::TextWindows& windows() const { return windows_; }
  size_t positions() const { return rows().empty() ? 0 : rows()[0].scores.size(); }
  bool complete() const { return complete_; }

 private:
  Comparison(const ModelAndText& loaded, lab::TextWindows windows, const ComparisonFlags& flags,
             const std::vector<CompareType>& types);

  std::string text_hash_;
  lab::TextWindows windows_;
  bool complete_ = true;
};

}  // namespace tq::app
