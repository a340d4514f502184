// SPDX-License-Identifier: Apache-2.0
#include "lab/compare_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

namespace tq::lab {
namespace {

using Json = nlohmann::ordered_json;

// Floats as short as they read back exactly.
std::string ScoresLine(const std::string& type, int window, const DivergenceScores& s) {
  const auto list = [](const auto& values) { return fmt::format("[{}]", fmt::join(values, ",")); };
  return fmt::format(
      R"({{"type":{},"window":{},"kld":{},"nll":{},"nll_reference":{},"p_change":{},"same_top":{}}})",
      Json(type).dump(), window, list(s.kld), list(s.nll), list(s.nll_base), list(s.p_change),
      list(s.same_top));
}

DivergenceScores ScoresOf(const Json& line, size_t positions) {
  DivergenceScores s;
  line.at("kld").get_to(s.kld);
  line.at("nll").get_to(s.nll);
  line.at("nll_reference").get_to(s.nll_base);
  line.at("p_change").get_to(s.p_change);
  line.at("same_top").get_to(s.same_top);
  for (const size_t size :
       {s.kld.size(), s.nll.size(), s.nll_base.size(), s.p_change.size(), s.same_top.size()}) {
    if (size != positions) throw std::length_error("the number of scores is not the window's");
  }
  return s;
}

}  // namespace

CompareFile::CompareFile(const std::filesystem::path& path, const ResultFacts& facts,
                         size_t positions)
    : file_(path, "compare", facts, [&](const std::string& line) {
        const Json json = Json::parse(line);
        scores_[{json.at("type").get<std::string>(), json.at("window").get<int>()}] =
            ScoresOf(json, positions);
      }) {}

const DivergenceScores* CompareFile::Find(const std::string& type, int window) const {
  const auto found = scores_.find({type, window});
  return found == scores_.end() ? nullptr : &found->second;
}

void CompareFile::Add(const std::string& type, int window, const DivergenceScores& scores) {
  file_.Add(ScoresLine(type, window, scores));
  scores_[{type, window}] = scores;
}

}  // namespace tq::lab
