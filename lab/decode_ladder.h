// SPDX-License-Identifier: Apache-2.0
// Ways in which others turned 3-bit codes into values inside a product with a query, as plain loops
// on one core: a ladder of what each costs.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace tq::lab {

enum class DecodeWay : uint8_t { kTable, kMagnitudes, kPairs, kLevels, kPolynomial, kNothing };

struct DecodeWayInfo {
  DecodeWay way;
  std::string_view name;
  std::string_view summary;
};
// In the order of the enumeration.
inline constexpr std::array kDecodeWays = {
    DecodeWayInfo{DecodeWay::kTable, "table", "a table of the 8 levels"},
    DecodeWayInfo{DecodeWay::kMagnitudes, "magnitudes", "a table of 4 magnitudes, times the sign"},
    DecodeWayInfo{DecodeWay::kPairs, "pairs", "a table of pairs of magnitudes, signs by selection"},
    DecodeWayInfo{DecodeWay::kLevels, "levels", "the query summed per magnitude, no table"},
    DecodeWayInfo{DecodeWay::kPolynomial, "polynomial", "magnitudes by multiply-adds of the bits"},
    DecodeWayInfo{DecodeWay::kNothing, "nothing", "bytes read, nothing decoded: the most to reach"},
};
// Throws kInvalidArgument naming those there are.
DecodeWay ParseDecodeWay(std::string_view name);

// Vectors of 128 codes: 2 bits each in 32 bytes, then the highest bits in 16. Codes count levels
// upwards.
inline constexpr int kLadderDim = 128, kLadderBytes = 48;
std::vector<uint8_t> PackLadderCodes(std::span<const uint8_t> codes);  // [128] -> [48]
float LadderLevel(int code);

// The product of a query [128] with one packed vector; of kNothing it has no meaning.
float LadderProduct(DecodeWay way, const uint8_t* packed, const float* query);

// Millions of values per second over 4096 vectors: a sample per repetition.
std::vector<double> DecodeLadder(DecodeWay way, int repetitions);

}  // namespace tq::lab
