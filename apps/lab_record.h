// SPDX-License-Identifier: Apache-2.0
// What `lab run` found of an experiment, and the file of such records: a line of JSON each.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "lab/experiments/experiment.h"

namespace tq::app {

struct MeasuredRow {
  std::string name = {};    // as the experiment writes it
  std::string detail = {};  // what was really measured, as "pp128 @ d512"; may be empty
  bool simulated = false;
  lab::Estimate figure = {};
  double bits_per_value = 0;  // 0: does not apply
};

struct MeasuredClaim {
  std::string text = {}, a = {}, relation = {}, b = {};
  double margin = 0;                         // in the figures' unit
  lab::Estimate gain = {};                   // how much better a is than b
  std::optional<lab::Verdict> verdict = {};  // none: one of the rows was not measured
};

// Under which a record stands for a new measurement.
struct LabConditions {
  std::string build = {}, device = {} /* with its threads */;
  std::string model = {}, model_id = {}, text_id = {};  // empty where none is needed
  bool quick = false;
  bool operator==(const LabConditions&) const = default;
};

struct LabRecord {
  std::string id;
  LabConditions conditions;
  std::string date;     // ISO 8601, UTC
  std::string command;  // that makes it again
  std::string unit;     // of the rows' figures
  std::string extent;   // how much was measured: "4 x 2048 tokens, ..."
  std::string note;     // why a row is missing; may be empty
  std::vector<MeasuredRow> rows;
  std::vector<MeasuredClaim> claims;

  // "confirmed", "contradicted", "undecided"; "not measured" if no claim could be judged;
  // one that could not is undecided.
  std::string Verdict() const;
};

// gain(a, b) for rows that are both in `rows`: how much better a's figure is, and its error.
using GainOfRows = std::function<lab::Estimate(const std::string& a, const std::string& b)>;
// Fills rows, claims and unit.
void JudgeExperiment(const lab::Experiment& experiment,
                     const std::map<std::string, MeasuredRow>& rows, const GainOfRows& gain,
                     LabRecord& record);
// For figures that were measured apart from each other.
GainOfRows UnpairedGain(lab::Measure measure, const std::map<std::string, MeasuredRow>& rows);

std::string ToJson(const LabRecord& record);           // one line
LabRecord LabRecordFromJson(const std::string& line);  // throws std::exception

std::filesystem::path DefaultLabFile();

// Missing: no records. A last line that was cut off is left out, unless it is the only one. Throws
// kCorruptFile naming the line, kIo.
std::vector<LabRecord> ReadLabFile(const std::filesystem::path& path);
// A line that was cut off is removed before. Throws kIo.
void AppendToLabFile(const std::filesystem::path& path, const LabRecord& record);

// The newest record of the experiment under these conditions, or null.
const LabRecord* FindRecord(const std::vector<LabRecord>& records, const std::string& id,
                            const LabConditions& conditions);

}  // namespace tq::app
