// SPDX-License-Identifier: Apache-2.0
#include "lab/needle_file.h"

#include <nlohmann/json.hpp>

namespace tq::lab {
namespace {

using Json = nlohmann::ordered_json;

std::string LineOf(const std::string& type, const NeedleTrial& trial,
                   const std::vector<NeedleScore>& scores) {
  Json json;
  json["type"] = type;
  json["task"] = NameOf(trial.task);
  json["context"] = trial.context;
  json["trial"] = trial.trial;
  for (const NeedleScore& score : scores)
    json["answers"].push_back({{"depth", score.depth},
                               {"log_prob", score.log_prob},
                               {"rank", score.rank},
                               {"found", score.found}});
  return json.dump();
}

std::vector<NeedleScore> ScoresOf(const Json& json) {
  std::vector<NeedleScore> scores;
  for (const Json& answer : json.at("answers")) {
    scores.push_back({.depth = answer.at("depth"),
                      .log_prob = answer.at("log_prob"),
                      .rank = answer.at("rank"),
                      .found = answer.at("found")});
  }
  return scores;
}

}  // namespace

NeedleResults::NeedleResults(const std::filesystem::path& path, const ResultFacts& facts) {
  if (path.empty()) return;
  file_.emplace(path, "lab needle", facts, [&](const std::string& line) {
    const Json json = Json::parse(line);
    const NeedleTrial trial{ParseNeedleTask(json.at("task").get<std::string>()), json.at("context"),
                            json.at("trial")};
    scores_[{json.at("type").get<std::string>(), trial}] = ScoresOf(json);
  });
}

const std::vector<NeedleScore>* NeedleResults::Find(const std::string& type,
                                                    const NeedleTrial& trial) const {
  const auto found = scores_.find({type, trial});
  return found == scores_.end() ? nullptr : &found->second;
}

void NeedleResults::Add(const std::string& type, const NeedleTrial& trial,
                        std::vector<NeedleScore> scores) {
  if (file_) file_->Add(LineOf(type, trial, scores));
  scores_[{type, trial}] = std::move(scores);
}

}  // namespace tq::lab
