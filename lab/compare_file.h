// SPDX-License-Identifier: Apache-2.0
// What `compare` has scored so far, in a file: one line per window and cache type. A run may add
// windows and types to it.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <utility>

#include "lab/kl_divergence.h"
#include "lab/results_file.h"

namespace tq::lab {

class CompareFile {
 public:
  // `positions`: scores of a window. Throws as ResultsFile does.
  CompareFile(const std::filesystem::path& path, const ResultFacts& facts, size_t positions);

  // Null if it is not there.
  const DivergenceScores* Find(const std::string& type, int window) const;
  void Add(const std::string& type, int window, const DivergenceScores& scores);  // throws kIo

 private:
  std::map<std::pair<std::string, int>, DivergenceScores> scores_;
  ResultsFile file_;
};

}  // namespace tq::lab
