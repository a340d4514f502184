// SPDX-License-Identifier: Apache-2.0
// What `compare` has scored so far, in a file: a line of JSON that says of what, then one line per
// window and cache type. A run that was killed goes on where its file ends, and may add windows
// and types.
#pragma once

#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "lab/kl_divergence.h"

namespace tq::lab {

// What all lines of a file have in common: name and value, in order.
using CompareFacts = std::vector<std::pair<std::string, std::string>>;

class CompareFile {
 public:
  // Opens or makes the file. `positions`: scores of a window. Throws kInvalidArgument if it holds
  // results of something else (which fact differs, what it is there and here), kCorruptFile if it
  // is no such file (which line), kIo. A last line that was cut off is dropped.
  CompareFile(const std::filesystem::path& path, const CompareFacts& facts, size_t positions);

  // Null if it is not there.
  const DivergenceScores* Find(const std::string& type, int window) const;
  // Written through to the system at once. Throws kIo.
  void Add(const std::string& type, int window, const DivergenceScores& scores);

 private:
  void Read(const CompareFacts& facts, size_t positions);
  void WriteLine(const std::string& line);

  std::filesystem::path path_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
  std::map<std::pair<std::string, int>, DivergenceScores> scores_;
};

}  // namespace tq::lab
