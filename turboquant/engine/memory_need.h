// SPDX-License-Identifier: Apache-2.0
// Whether a context fits, and what would: said before any work starts.
#pragma once

#include <cstdint>
#include <string>

#include "turboquant/kv/kv_cache.h"

namespace tq {

// Bytes that this process could still take: free memory of the machine, or of its control group if
// that is less.
uint64_t AvailableMemory();

struct MemoryLimit {
  uint64_t bytes;
  std::string what;  // "the cache budget is"
};

// Throws kOutOfMemory, naming need, limit and the longest context that fits, if a sequence of
// `context` tokens needs more than the limit.
void CheckContextFits(const KvGeometry& geometry, const CachePolicy& policy, int64_t context,
                      int chunk, const MemoryLimit& limit);

}  // namespace tq
