// SPDX-License-Identifier: Apache-2.0
#include "apps/lab_record.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "apps/fetch_model/model_table.h"
#include "lab/lines_file.h"
#include "turboquant/base/error.h"

namespace tq::app {
namespace {

using Json = nlohmann::ordered_json;
using lab::Estimate;

constexpr const char* kFormat = "turboquant lab 1";

std::optional<lab::Verdict> VerdictNamed(const std::string& name) {
  for (const lab::Verdict verdict :
       {lab::Verdict::kConfirmed, lab::Verdict::kContradicted, lab::Verdict::kUndecided}) {
    if (lab::NameOf(verdict) == name) return verdict;
  }
  return {};
}

}  // namespace

std::string LabRecord::Verdict() const {
  bool any = false;
  lab::Verdict all = lab::Verdict::kConfirmed;
  for (const MeasuredClaim& claim : claims) {
    any = any || claim.verdict;
    all = lab::Worse(all, claim.verdict.value_or(lab::Verdict::kUndecided));
  }
  return any ? std::string(lab::NameOf(all)) : "not measured";
}

void JudgeExperiment(const lab::Experiment& experiment,
                     const std::map<std::string, MeasuredRow>& rows, const GainOfRows& gain,
                     LabRecord& record) {
  record.id = experiment.id;
  record.unit = lab::UnitOf(experiment.measure);
  for (const std::string& name : lab::RowsOf(experiment)) {
    if (const auto row = rows.find(name); row != rows.end()) record.rows.push_back(row->second);
  }
  for (const lab::Claim& claim : experiment.claims) {
    MeasuredClaim measured{.text = std::string(claim.text),
                           .a = std::string(claim.a),
                           .relation = std::string(lab::NameOf(claim.relation)),
                           .b = std::string(claim.b)};
    if (rows.contains(measured.a) && rows.contains(measured.b)) {
      measured.margin =
          lab::MarginOf(claim.relation, claim.margin) * std::abs(rows.at(measured.b).figure.value);
      measured.gain = gain(measured.a, measured.b);
      measured.verdict = lab::Judge(claim.relation, measured.gain, measured.margin);
    }
    record.claims.push_back(std::move(measured));
  }
}

GainOfRows UnpairedGain(lab::Measure measure, const std::map<std::string, MeasuredRow>& rows) {
  const double sign = lab::HigherIsBetter(measure) ? 1 : -1;
  return [sign, &rows](const std::string& a, const std::string& b) {
    const Estimate x = rows.at(a).figure, y = rows.at(b).figure;
    return Estimate{sign * (x.value - y.value), std::hypot(x.error, y.error)};
  };
}

std::string ToJson(const LabRecord& r) {
  Json json;
  json["format"] = kFormat;
  json["id"] = r.id;
  json["verdict"] = r.Verdict();
  json["date"] = r.date;
  json["build"] = r.conditions.build;
  json["device"] = r.conditions.device;
  json["model"] = r.conditions.model;
  json["model_id"] = r.conditions.model_id;
  json["text_id"] = r.conditions.text_id;
  json["quick"] = r.conditions.quick;
  json["command"] = r.command;
  json["unit"] = r.unit;
  json["extent"] = r.extent;
  json["note"] = r.note;
  json["rows"] = Json::array();
  for (const MeasuredRow& row : r.rows) {
    json["rows"].push_back({{"name", row.name},
                            {"detail", row.detail},
                            {"simulated", row.simulated},
                            {"figure", row.figure.value},
                            {"se", row.figure.error},
                            {"bits_per_value", row.bits_per_value}});
  }
  json["claims"] = Json::array();
  for (const MeasuredClaim& claim : r.claims) {
    json["claims"].push_back(
        {{"text", claim.text},
         {"a", claim.a},
         {"relation", claim.relation},
         {"b", claim.b},
         {"margin", claim.margin},
         {"gain", claim.gain.value},
         {"gain_se", claim.gain.error},
         {"verdict", claim.verdict ? lab::NameOf(*claim.verdict) : "not measured"}});
  }
  return json.dump();
}

LabRecord LabRecordFromJson(const std::string& line) {
  const Json json = Json::parse(line);
  if (json.at("format") != kFormat) throw std::runtime_error("this is no record of `lab run`");
  LabRecord r;
  json.at("id").get_to(r.id);
  json.at("date").get_to(r.date);
  json.at("build").get_to(r.conditions.build);
  json.at("device").get_to(r.conditions.device);
  json.at("model").get_to(r.conditions.model);
  json.at("model_id").get_to(r.conditions.model_id);
  json.at("text_id").get_to(r.conditions.text_id);
  json.at("quick").get_to(r.conditions.quick);
  json.at("command").get_to(r.command);
  json.at("unit").get_to(r.unit);
  json.at("extent").get_to(r.extent);
  json.at("note").get_to(r.note);
  for (const Json& row : json.at("rows")) {
    r.rows.push_back({.name = row.at("name"),
                      .detail = row.at("detail"),
                      .simulated = row.at("simulated"),
                      .figure = {row.at("figure"), row.at("se")},
                      .bits_per_value = row.at("bits_per_value")});
  }
  for (const Json& claim : json.at("claims")) {
    r.claims.push_back({.text = claim.at("text"),
                        .a = claim.at("a"),
                        .relation = claim.at("relation"),
                        .b = claim.at("b"),
                        .margin = claim.at("margin"),
                        .gain = {claim.at("gain"), claim.at("gain_se")},
                        .verdict = VerdictNamed(claim.at("verdict"))});
  }
  return r;
}

std::filesystem::path DefaultLabFile() { return DefaultModelFolder() / "lab" / "results.jsonl"; }

std::vector<LabRecord> ReadLabFile(const std::filesystem::path& path) {
  std::vector<LabRecord> records;
  if (!std::filesystem::exists(path)) return records;
  lab::ReadLines(path,
                 [&](int, const std::string& line) { records.push_back(LabRecordFromJson(line)); });
  return records;
}

void AppendToLabFile(const std::filesystem::path& path, const LabRecord& record) {
  std::error_code ignored;
  if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path(), ignored);
  if (std::filesystem::exists(path))
    lab::DropCutLine(path, lab::ReadLines(path, [](int, const std::string&) {}));
  std::ofstream out(path, std::ios::binary | std::ios::app);
  out << ToJson(record) << '\n' << std::flush;
  if (!out) Throw(ErrorCode::kIo, "cannot write {}: {}", path.string(), std::strerror(errno));
}

const LabRecord* FindRecord(const std::vector<LabRecord>& records, const std::string& id,
                            const LabConditions& conditions) {
  const auto last = std::find_if(records.rbegin(), records.rend(), [&](const LabRecord& record) {
    return record.id == id && record.conditions == conditions;
  });
  return last == records.rend() ? nullptr : &*last;
}

}  // namespace tq::app
