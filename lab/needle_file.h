// SPDX-License-Identifier: Apache-2.0
// What `lab needle` has asked so far, in a file: one line per cache type, task, context and trial.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "lab/needle.h"
#include "lab/results_file.h"

namespace tq::lab {

struct NeedleTrial {
  NeedleTask task;
  int context, trial;
  auto operator<=>(const NeedleTrial&) const = default;
};

class NeedleResults {
 public:
  // No path: nothing is kept. Throws as ResultsFile does.
  NeedleResults(const std::filesystem::path& path, const ResultFacts& facts);

  // Null if it is not there.
  const std::vector<NeedleScore>* Find(const std::string& type, const NeedleTrial& trial) const;
  void Add(const std::string& type, const NeedleTrial& trial,
           std::vector<NeedleScore> scores);  // throws kIo

 private:
  std::map<std::pair<std::string, NeedleTrial>, std::vector<NeedleScore>> scores_;
  std::optional<ResultsFile> file_;
};

}  // namespace tq::lab
