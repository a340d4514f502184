// SPDX-License-Identifier: Apache-2.0
// Results as they come, in a file: a line of JSON that says of what, then one line per result. A
// run that was killed goes on where its file ends.
#pragma once

#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tq::lab {

// What all lines of a file have in common: name and value, in order.
using ResultFacts = std::vector<std::pair<std::string, std::string>>;

class ResultsFile {
 public:
  // Opens or makes the file of `command` and hands its results to `take`, which may throw any
  // exception for a line that is none. Throws kInvalidArgument if it holds results of something
  // else (which fact differs, what it is there and here), kCorruptFile if it is no such file (which
  // line), kIo. A last line that was cut off is dropped.
  ResultsFile(const std::filesystem::path& path, std::string_view command, const ResultFacts& facts,
              const std::function<void(const std::string& line)>& take);

  // Without its end. Written through to the system at once. Throws kIo.
  void Add(const std::string& line);

 private:
  std::filesystem::path path_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
};

}  // namespace tq::lab
