// SPDX-License-Identifier: Apache-2.0
// Checksums and identities: XXH3 over bytes (the only file that knows the library is hash.cc).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace tq {

uint64_t Hash64(std::span<const std::byte> bytes, uint64_t seed = 0);
std::string HexString(uint64_t value);  // 16 lower-case digits

}  // namespace tq
