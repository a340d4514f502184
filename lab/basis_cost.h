// SPDX-License-Identifier: Apache-2.0
// What attention over rotated codes costs if every key and value is turned back when it is read,
// against turning the query and the output.
#pragma once

#include <vector>

#include "turboquant/codec/codec.h"

namespace tq::lab {

enum class ReadBasis {
  kRotated,  // the query is turned into the cache's basis, the output back
  kOriginal  // besides attending, every key and value read is turned back
};

// Millions of tokens per second of one KV head of 128 dimensions with 4 query heads, over 4096
// tokens on one core: a sample per repetition.
std::vector<double> BasisCost(Codec codec, ReadBasis basis, int repetitions);

}  // namespace tq::lab
