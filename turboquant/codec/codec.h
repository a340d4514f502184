// SPDX-License-Identifier: Apache-2.0
// The closed list of cache codecs: what a user names, what a page-table entry says, what kernels
// switch on.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace tq {

// Values are part of the session file format: never renumber.
enum class Codec : uint8_t {
  kF32 = 0,
  kF16 = 1,
  kBf16 = 2,
  kQ8_0 = 3,
  kQ4_0 = 4,  // rows, raw basis: for comparison
  kTurbo8 = 8,
  kTurbo4 = 9,
  kTurbo3 = 10,
  kTurbo2 = 11,
  kTurbo4Tcq = 12,
  kTurbo3Tcq = 13,
  kTurbo2Tcq = 14,  // packed tiles, stored basis
};

struct CodecInfo {
  Codec codec;
  std::string_view name;     // what --cache-type-k takes
  std::string_view aliases;  // space-separated, may be empty
  bool tiles;                // packed tiles in the stored basis; otherwise rows in the raw basis
  int bits;                  // per code, without scales
  bool trellis;              // codes of trellis.h; otherwise each code names its own level
  std::string_view summary;  // one line for help
};

inline constexpr std::array kCodecs = {
    CodecInfo{Codec::kF32, "f32", "", false, 32, false, "32-bit floats (reference)"},
    CodecInfo{Codec::kF16, "f16", "", false, 16, false, "16-bit floats"},
    CodecInfo{Codec::kBf16, "bf16", "", false, 16, false, "bfloat16"},
    CodecInfo{Codec::kQ8_0, "q8_0", "", false, 8, false,
              "8 bits, a scale per 32 values, no rotation"},
    CodecInfo{Codec::kQ4_0, "q4_0", "", false, 4, false,
              "4 bits, a scale per 32 values, no rotation"},
    CodecInfo{Codec::kTurbo8, "turbo8", "tbq8", true, 8, false, "rotation + 8-bit codes"},
    CodecInfo{Codec::kTurbo4, "turbo4", "tbq4", true, 4, false, "rotation + 16 Lloyd-Max levels"},
    CodecInfo{Codec::kTurbo3, "turbo3", "tbq3", true, 3, false, "rotation + 8 Lloyd-Max levels"},
    CodecInfo{Codec::kTurbo2, "turbo2", "tbq2", true, 2, false, "rotation + 4 Lloyd-Max levels"},
    CodecInfo{Codec::kTurbo4Tcq, "turbo4_tcq", "tbq4_tcq", true, 4, true, "rotation + trellis"},
    CodecInfo{Codec::kTurbo3Tcq, "turbo3_tcq", "tbq3_tcq", true, 3, true, "rotation + trellis"},
    CodecInfo{Codec::kTurbo2Tcq, "turbo2_tcq", "tbq2_tcq", true, 2, true, "rotation + trellis"},
};

const CodecInfo& InfoOf(Codec codec);

// Name or alias. Throws kInvalidArgument listing the names there are.
Codec ParseCodec(std::string_view name);

std::string CodecNames();  // "f32, f16, ..." for help and errors

// Head dims that packed tiles exist for.
inline constexpr std::array kHeadDims = {64, 80, 96, 112, 128, 192, 256, 512};

// Bits per value of a head vector, its scales included, reference vectors not.
double BitsPerValue(Codec codec, int head_dim);

}  // namespace tq
