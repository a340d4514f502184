// SPDX-License-Identifier: Apache-2.0
// Ideas turned into parts of a simulated cache.
#pragma once

#include <string>

#include "lab/simulation/ideas.h"
#include "lab/simulation/simulated_cache.h"

namespace tq::lab {

// Why a cache of that policy cannot have these ideas; empty: it can.
std::string WhyNot(const Ideas& ideas, const CachePolicy& policy);

// `cache` is what SimulateCache made of `policy`, and WhyNot says nothing.
void ApplyIdeas(const Ideas& ideas, const CachePolicy& policy, int head_dim, SimulatedCache& cache);

// What ideas store besides the codes, per value of keys and values.
double ExtraBitsPerValue(const Ideas& ideas, int head_dim);

}  // namespace tq::lab
