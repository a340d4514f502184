// SPDX-License-Identifier: Apache-2.0
#include "turboquant/base/hash.h"

#include <fmt/format.h>
#include <xxhash.h>

namespace tq {

uint64_t Hash64(std::span<const std::byte> bytes, uint64_t seed) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

std::string HexString(uint64_t value) { return fmt::format("{:016x}", value); }

}  // namespace tq
