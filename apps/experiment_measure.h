// SPDX-License-Identifier: Apache-2.0
// Figures of an experiment's rows, by kind of measurement.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "apps/comparison.h"
#include "apps/experiment_rows.h"
#include "apps/lab_record.h"

namespace tq::app {

struct LabRunFlags {
  std::vector<std::string> ids;
  ModelFlags model;
  CalibrationFlags calibration;
  std::string file;  // text; empty: the one built in
  bool quick = false;
  bool again = false;
  std::string output;  // file of records; empty: DefaultLabFile
};

// Rows that mean nothing to this build, model or device are missing from `rows`; `note` says why.
struct Figures {
  std::map<std::string, MeasuredRow> rows = {};
  GainOfRows gain = {};  // may refer to `rows` and to what measured them
  std::string extent = {}, note = {};
};

Figures MeasureNoise(const lab::Experiment& experiment);
Figures MeasureBasis(const lab::Experiment& experiment, bool quick);
Figures MeasureDecode(const lab::Experiment& experiment, bool quick);
// Part of the needles found. `scores`: file that keeps what is asked until all is. Throws
// kCancelled on Ctrl-C.
Figures MeasureRetrieval(std::shared_ptr<const Engine> engine, const std::string& text,
                         const LabRunFlags& flags, const std::string& scores,
                         const lab::Experiment& experiment);

// Speed; a row that several experiments have is timed once.
class SpeedMeter {
 public:
  SpeedMeter(std::shared_ptr<const Engine> engine, const LabRunFlags& flags)
      : engine_(std::move(engine)), flags_(flags) {}
  Figures Measure(const lab::Experiment& experiment);

 private:
  int repetitions() const { return flags_.quick ? 3 : 5; }
  MeasuredRow Time(lab::BenchCase test);

  std::shared_ptr<const Engine> engine_;
  const LabRunFlags& flags_;
  std::shared_ptr<const Calibration> calibration_;
  std::map<std::string, MeasuredRow> timed_;
};

// Divergence: all experiments with windows of one length share one pass of the reference.
class DivergenceMeter {
 public:
  // `scores`: file that keeps what is scored until all is.
  DivergenceMeter(const ModelAndText& loaded, const LabRunFlags& flags, int context,
                  const std::string& scores,
                  const std::vector<const lab::Experiment*>& experiments);

  void Score();  // throws kCancelled on Ctrl-C
  Figures Of(const lab::Experiment& experiment) const;

 private:
  int num_layers_;
  ComparisonFlags comparison_flags_;
  std::unique_ptr<Comparison> comparison_;
};

// Windows of an experiment of `size` tokens, with a text of that many.
int WindowTokens(int size, bool quick, int64_t text_tokens, int64_t model_context);

}  // namespace tq::app
