// SPDX-License-Identifier: Apache-2.0
// The closed list of GGUF tensor formats that TurboQuant reads: id in the file, name, values and
// bytes per block.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace tq {

enum class BlockFormat : uint32_t {  // values are GGUF's type ids
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ4_NL = 20,
  kIQ4_XS = 23,
  kBF16 = 30,
};

struct BlockFormatInfo {
  BlockFormat format;
  std::string_view name;
  uint32_t values_per_block;
  uint32_t bytes_per_block;
};

inline constexpr std::array kBlockFormats = {
    BlockFormatInfo{BlockFormat::kF32, "F32", 1, 4},
    BlockFormatInfo{BlockFormat::kF16, "F16", 1, 2},
    BlockFormatInfo{BlockFormat::kBF16, "BF16", 1, 2},
    BlockFormatInfo{BlockFormat::kQ8_0, "Q8_0", 32, 34},
    BlockFormatInfo{BlockFormat::kQ4_0, "Q4_0", 32, 18},
    BlockFormatInfo{BlockFormat::kQ4_1, "Q4_1", 32, 20},
    BlockFormatInfo{BlockFormat::kQ5_0, "Q5_0", 32, 22},
    BlockFormatInfo{BlockFormat::kQ5_1, "Q5_1", 32, 24},
    BlockFormatInfo{BlockFormat::kQ2_K, "Q2_K", 256, 84},
    BlockFormatInfo{BlockFormat::kQ3_K, "Q3_K", 256, 110},
    BlockFormatInfo{BlockFormat::kQ4_K, "Q4_K", 256, 144},
    BlockFormatInfo{BlockFormat::kQ5_K, "Q5_K", 256, 176},
    BlockFormatInfo{BlockFormat::kQ6_K, "Q6_K", 256, 210},
    BlockFormatInfo{BlockFormat::kIQ4_NL, "IQ4_NL", 32, 18},
    BlockFormatInfo{BlockFormat::kIQ4_XS, "IQ4_XS", 256, 136},
};

// Throws kUnsupported, naming the type (also types that other programs know), if `id` is not in the
// list.
const BlockFormatInfo& FindBlockFormat(uint32_t id);
const BlockFormatInfo& InfoOf(BlockFormat format);
// nullptr if `id` is not in the list.
const BlockFormatInfo* LookUpBlockFormat(uint32_t id);
// What other programs call the type `id`, read by us or not; "type 99" if nobody is known to use
// it.
std::string TensorTypeName(uint32_t id);
// "F32, F16, BF16, ...": for messages.
std::string BlockFormatNames();

}  // namespace tq
