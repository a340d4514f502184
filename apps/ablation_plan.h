// SPDX-License-Identifier: Apache-2.0
// The rows of the ablation table.
#pragma once

#include <string>
#include <vector>

#include "apps/compare_types.h"

namespace tq::app {

enum class AblationKind { kAdded, kFull, kRemoved };

struct AblationStep {
  AblationKind kind;
  std::string title;  // "+ sinks", "full - window"
  CompareType type;
};

// No cure, each one added to those before, the full set in the product and simulated, the full set
// without each one. `calibrated`: the cache has key transforms. Trellis codecs have rows where this
// build has them.
std::vector<AblationStep> AblationPlan(int bits, bool calibrated);

}  // namespace tq::app
