// SPDX-License-Identifier: Apache-2.0
#include "lab/results_file.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "lab/lines_file.h"
#include "turboquant/base/error.h"

namespace tq::lab {
namespace {

using Json = nlohmann::ordered_json;

std::string FormatOf(std::string_view command) { return fmt::format("turboquant {} 1", command); }

std::string HeaderLine(std::string_view command, const ResultFacts& facts) {
  Json header;
  header["format"] = FormatOf(command);
  for (const auto& [name, value] : facts) header[name] = value;
  return header.dump();
}

void ExpectFacts(const std::filesystem::path& path, const std::string& line,
                 std::string_view command, const ResultFacts& facts) {
  const Json header = Json::parse(line, nullptr, false);
  if (!header.is_object() || header.value("format", "") != FormatOf(command)) {
    Throw(ErrorCode::kCorruptFile, "{}: this is not a file of `{}` results; give another name",
          path.string(), command);
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

ResultsFile::ResultsFile(const std::filesystem::path& path, std::string_view command,
                         const ResultFacts& facts,
                         const std::function<void(const std::string& line)>& take)
    : path_(path), file_(nullptr, std::fclose) {
  const bool exists = std::filesystem::exists(path) && std::filesystem::file_size(path) > 0;
  if (exists) {
    const uint64_t whole = ReadLines(path, [&](int number, const std::string& line) {
      number == 1 ? ExpectFacts(path, line, command, facts) : take(line);
    });
    DropCutLine(path, whole);
  }
  file_.reset(std::fopen(path.c_str(), "ab"));
  if (file_ == nullptr)
    Throw(ErrorCode::kIo, "cannot write {}: {}", path.string(), std::strerror(errno));
  if (!exists) Add(HeaderLine(command, facts));
}

void ResultsFile::Add(const std::string& line) {
  if (std::fputs((line + '\n').c_str(), file_.get()) < 0 || std::fflush(file_.get()) != 0)
    Throw(ErrorCode::kIo, "cannot write {}: {}", path_.string(), std::strerror(errno));
}

}  // namespace tq::lab
