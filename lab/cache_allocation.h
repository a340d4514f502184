// SPDX-License-Identifier: Apache-2.0
// Which codec for which layer and side: greedy by divergence saved per byte, a pure function.
#pragma once

#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include "turboquant/codec/codec.h"

namespace tq::lab {

// What one codec in one place would cost and lose.
struct CacheOption {
  Codec codec = Codec::kF16;
  double bytes = 0;
  double divergence = 0;
};
using CacheSlot = std::vector<CacheOption>;  // in any order, at least one

struct AllocationLimits {
  double bytes = std::numeric_limits<double>::infinity();
  double divergence = 0;  // 0: as little as the bytes allow
};

struct Allocation {
  std::vector<size_t> choice;  // per slot, index of its option
  double bytes = 0;
  double divergence = 0;
};

// Starts with the cheapest option everywhere and buys the step that saves the most divergence per
// byte, as long as it fits `limits.bytes` and until the sum is at most `limits.divergence`. The
// caller compares the sums with its limits: even the cheapest may need more bytes, and the best may
// diverge more. Of equal steps the first slot's is taken.
Allocation Allocate(std::span<const CacheSlot> slots, const AllocationLimits& limits);

}  // namespace tq::lab
