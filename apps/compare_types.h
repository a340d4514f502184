// SPDX-License-Identifier: Apache-2.0
// The cache types that `compare` sets side by side: "K/V" or one for both; policies with layers
// too.
#pragma once

#include <string>
#include <vector>

namespace tq::app {

struct CacheTypePair {
  std::string k, v;
  std::string Name() const { return k == v ? k : k + " / " + v; }
  bool operator==(const CacheTypePair&) const = default;
};

// Items separated by commas where they name no layers ("q8_0,turbo4/turbo3"); an item with layers
// stands alone
// ("turbo4:0-3,q8_0:4-29/turbo3"). Throws kInvalidArgument for an empty item or more than one
// slash.
std::vector<CacheTypePair> ParseTypePairs(const std::vector<std::string>& words);

}  // namespace tq::app
