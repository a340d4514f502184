// SPDX-License-Identifier: Apache-2.0
#include "turboquant/codec/trellis.h"

#include <cmath>

#include "turboquant/codec/trellis_search.h"

namespace tq {

float TrellisGain(int bits, int head_dim) {
  const double sigma = TrellisOfBits(bits).sigma;
  return static_cast<float>(sigma * std::sqrt(static_cast<double>(head_dim)));
}

namespace {

using CostTable = std::array<TrellisCosts, kTrellisInputs>;
CostTable MakeCostTable(int bits) {
  CostTable table;
  for (int i = 0; i < kTrellisInputs; ++i) {
    table[static_cast<size_t>(i)] = TrellisCostsOf(TrellisOfBits(bits), i - kTrellisMaxInput);
  }
  return table;
}

}  // namespace

const CostTable& TrellisCostTable(int bits) {
  static const std::array kTables = {MakeCostTable(2), MakeCostTable(3), MakeCostTable(4)};
  return kTables[static_cast<size_t>(bits - 2)];
}

}  // namespace tq
