// SPDX-License-Identifier: Apache-2.0
// Finds stop strings in a stream of bytes that comes in pieces, and holds back what might become
// one. Where it stops does not depend on how the stream was cut into pieces.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tq {

class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stops);  // empty ones mean nothing

  // What is certain not to belong to a stop string. The first one to be complete ends the stream;
  // of several that end with the same byte, the longest. After that everything is swallowed.
  std::string Push(std::string_view bytes);
  bool stopped() const { return stopped_; }
  std::string Flush();  // what was held back, if the stream ends otherwise

 private:
  size_t LongestMatch() const;
  size_t LongestBeginning() const;

  std::vector<std::string> stops_;
  std::string pending_;
  bool stopped_ = false;
};

}  // namespace tq
