// SPDX-License-Identifier: Apache-2.0
#include "turboquant/engine/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace tq {

StopMatcher::StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {
  std::erase(stops_, "");
}

// Bytes of the longest stop string that ends where pending_ ends.
size_t StopMatcher::LongestMatch() const {
  size_t longest = 0;
  for (const std::string& stop : stops_)
    if (pending_.ends_with(stop)) longest = std::max(longest, stop.size());
  return longest;
}

// Bytes at the end of pending_ that may be the beginning of a stop string.
size_t StopMatcher::LongestBeginning() const {
  size_t longest = 0;
  for (const std::string& stop : stops_) {
    for (size_t n = std::min(stop.size() - 1, pending_.size()); n > longest; --n) {
      if (pending_.ends_with(std::string_view(stop).substr(0, n))) longest = n;
    }
  }
  return longest;
}

std::string StopMatcher::Push(std::string_view bytes) {
  if (stopped_) return {};
  for (const char byte : bytes) {
    pending_ += byte;
    if (const size_t match = LongestMatch(); match > 0) {
      stopped_ = true;
      pending_.resize(pending_.size() - match);
      return std::exchange(pending_, {});
    }
  }
  const size_t certain = pending_.size() - LongestBeginning();
  std::string text = pending_.substr(0, certain);
  pending_.erase(0, certain);
  return text;
}

std::string StopMatcher::Flush() { return std::exchange(pending_, {}); }

}  // namespace tq
