// SPDX-License-Identifier: Apache-2.0
#include "apps/compare_types.h"

#include <algorithm>

#include "turboquant/base/error.h"

namespace tq::app {
namespace {

CacheTypePair ParsePair(const std::string& item) {
  const size_t slash = item.find('/');
  CacheTypePair pair = slash == std::string::npos
                           ? CacheTypePair{item, item}
                           : CacheTypePair{item.substr(0, slash), item.substr(slash + 1)};
  if (pair.k.empty() || pair.v.empty() || pair.v.find('/') != std::string::npos) {
    Throw(ErrorCode::kInvalidArgument, "--types: '{}' is not TYPE or TYPE_K/TYPE_V", item);
  }
  return pair;
}

}  // namespace

std::vector<CacheTypePair> ParseTypePairs(const std::vector<std::string>& words) {
  std::vector<CacheTypePair> pairs;
  const auto add = [&](const std::string& item) {
    const CacheTypePair pair = ParsePair(item);
    if (std::find(pairs.begin(), pairs.end(), pair) == pairs.end()) pairs.push_back(pair);
  };
  for (const std::string& word : words) {
    if (word.find(':') != std::string::npos) {
      add(word);
      continue;
    }
    for (size_t begin = 0; begin <= word.size();) {
      const size_t end = std::min(word.find(',', begin), word.size());
      add(word.substr(begin, end - begin));
      begin = end + 1;
    }
  }
  return pairs;
}

}  // namespace tq::app
