// SPDX-License-Identifier: Apache-2.0
// Progress of long work on stderr: a bar that redraws itself on a terminal, a few plain lines
// otherwise.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace tq::app {

class Progress {
 public:
  enum class Unit { kBytes, kTokens, kSteps };

  Progress(std::string label, Unit unit);
  ~Progress();  // ends the line if Done was not called
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void Update(uint64_t done, uint64_t total);
  void Done();  // draws the full bar and ends the line

 private:
  void Draw(bool last);

  std::string label_;
  Unit unit_;
  bool terminal_;
  bool open_ = false;  // something is drawn on the current line
  uint64_t done_ = 0, total_ = 0;
  int last_quarter_ = -1;
  std::chrono::steady_clock::time_point start_, drawn_;
};

std::string FormatBytes(double bytes);      // "93.8 MiB"
std::string FormatSeconds(double seconds);  // "7 s", "2 min 05 s"

}  // namespace tq::app
