// SPDX-License-Identifier: Apache-2.0
#include "turboquant/ops/largest.h"

#include <algorithm>
#include <limits>

namespace tq {
namespace {

constexpr float kLowest = -std::numeric_limits<float>::infinity();
constexpr size_t kLanes = 16;  // which the compiler takes with vectors

}  // namespace

float LargestValue(std::span<const float> values) {  // a comparison with NaN is false
  float lanes[kLanes];
  std::fill_n(lanes, kLanes, kLowest);
  size_t i = 0;
  for (; i + kLanes <= values.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const float x = values[i + lane];
      lanes[lane] = x > lanes[lane] ? x : lanes[lane];
    }
  }
  float largest = *std::max_element(lanes, lanes + kLanes);
  for (; i < values.size(); ++i) largest = values[i] > largest ? values[i] : largest;
  return largest;
}

int32_t LargestIndex(std::span<const float> values) {
  float largest = kLowest;
  size_t where = values.size();
  for (size_t i = 0; i < values.size(); i += kLargestBlock) {
    const float here = LargestValue(values.subspan(i, std::min(kLargestBlock, values.size() - i)));
    if (!(here > largest)) continue;
    largest = here;
    where = i;
  }
  if (where == values.size()) return -1;
  while (values[where] != largest) ++where;
  return static_cast<int32_t>(where);
}

}  // namespace tq
