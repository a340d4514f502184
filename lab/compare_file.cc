// SPDX-License-Identifier: Apache-2.0
#include "lab/compare_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "lab/lines_file.h"
#include "turboquant/base/error.h"

namespace tq::lab {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kFormat = "turboquant compare 1";

std::string HeaderLine(const CompareFacts& facts) {
  Json header;
  header["format"] = kFormat;
  for (const auto& [name, value] : facts) header[name] = value;
  return header.dump();
}

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

void ExpectFacts(const std::filesystem::path& path, const std::string& line,
                 const CompareFacts& facts) {
  const Json header = Json::parse(line, nullptr, false);
  if (!header.is_object() || header.value("format", "") != kFormat) {
    Throw(ErrorCode::kCorruptFile, "{}: this is not a file of `compare` results; give another name",
          path.string());
  }
  for (const auto& [name, value] : facts) {
    const std::string there = header.value(name, "nothing");
    if (there != value) {
      Throw(ErrorCode::kInvalidArgument,
            "{} holds results of {} {}, this run has {}: give another file, or the same settings",
            path.string(), name, there, value);
    }
  }
}

}  // namespace

CompareFile::CompareFile(const std::filesystem::path& path, const CompareFacts& facts,
                         size_t positions)
    : path_(path), file_(nullptr, std::fclose) {
  const bool exists = std::filesystem::exists(path) && std::filesystem::file_size(path) > 0;
  if (exists) Read(facts, positions);
  file_.reset(std::fopen(path.c_str(), "ab"));
  if (file_ == nullptr)
    Throw(ErrorCode::kIo, "cannot write {}: {}", path.string(), std::strerror(errno));
  if (!exists) WriteLine(HeaderLine(facts));
}

void CompareFile::Read(const CompareFacts& facts, size_t positions) {
  const uint64_t whole = ReadLines(path_, [&](int number, const std::string& line) {
    if (number == 1) {
      ExpectFacts(path_, line, facts);
      return;
    }
    const Json json = Json::parse(line);
    scores_[{json.at("type").get<std::string>(), json.at("window").get<int>()}] =
        ScoresOf(json, positions);
  });
  DropCutLine(path_, whole);
}

const DivergenceScores* CompareFile::Find(const std::string& type, int window) const {
  const auto found = scores_.find({type, window});
  return found == scores_.end() ? nullptr : &found->second;
}

void CompareFile::Add(const std::string& type, int window, const DivergenceScores& scores) {
  WriteLine(ScoresLine(type, window, scores));
  scores_[{type, window}] = scores;
}

void CompareFile::WriteLine(const std::string& line) {
  if (std::fputs((line + '\n').c_str(), file_.get()) < 0 || std::fflush(file_.get()) != 0)
    Throw(ErrorCode::kIo, "cannot write {}: {}", path_.string(), std::strerror(errno));
}

}  // namespace tq::lab
