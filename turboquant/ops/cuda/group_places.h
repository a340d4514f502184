// SPDX-License-Identifier: Apache-2.0
// Index arithmetic of the device's weight kernels over ops/packed_layouts.h, for the host as well:
// tests check it against LoadGroupCodes without a GPU.
//
// A warp works on a panel's 16 rows x 32 columns (a group). Lane 4 g + t, g 0..7, t 0..3, holds
// rows g and g + 8 (of few tokens 2g and 2g + 1), columns 4t..4t+3 and 16 + 4t..16 + 4t + 3: the
// fragment of a tensor core's 16 x 32 operand, and in every packed layout whole words of 4 bytes.
#pragma once

#include <cstdint>

#include "turboquant/ops/packed_layouts.h"

#ifdef __CUDACC__
#define TQ_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define TQ_HOST_DEVICE inline
#endif

namespace tq::cuda {

template <int kIndex>
struct LayoutOf {
  static constexpr PackedLayout kLayout = kPackedLayouts[static_cast<size_t>(kIndex)];
  static constexpr BlockFormat kFormat = kLayout.format;
  static constexpr int kBits = kLayout.bits;
  static constexpr ScaleKind kScales = kLayout.scales;
  static constexpr bool kQuantised = kLayout.quantised();
  static constexpr bool kTable = kLayout.table;
  static constexpr bool kMin = HasMin(kScales);
  static constexpr bool kSuper = HasSuper(kScales);
  static constexpr bool k16 = HasGroups16(kScales);  // two scales per group
  // What is subtracted from a code as it is after CodeWords: 8-bit codes and table levels come out
  // signed.
  static constexpr int kZero = kBits == 8 || kTable ? 0 : kLayout.zero;
  static constexpr int kGroupsPerRecord = kSuper ? kGroupsPerSuper : 1;
  static constexpr int64_t kGroupBytes = kQuantised ? kLayout.group_bytes() : 0;
  static constexpr int64_t kScaleBytes = kQuantised ? kLayout.scale_bytes() : 0;
  static constexpr int64_t kRecordBytes = kQuantised ? kLayout.record_bytes() : 0;
};

// The codes of 4 columns of one row, a byte each.
struct CodeWordPair {
  uint32_t low;   // columns 4t..4t+3
  uint32_t high;  // columns 16+4t..
};

// What a lane loads of one row of a group: word t of up to four planes.
template <typename L>
struct PlaneWords {
  static constexpr int kCount = L::kBits == 8   ? 2
                                : L::kBits == 6 ? 3
                                : L::kBits == 5 ? 2
                                : L::kBits == 4 ? 1
                                : L::kBits == 3 ? 3
                                                : 2;
  uint32_t word[kCount];
};

// Byte offset, from the start of a group's codes, of plane word `i` of (row, t).
template <typename L>
TQ_HOST_DEVICE int PlaneOffset(int i, int row, int t) {
  if constexpr (L::kBits == 8) return 64 * (t + 4 * i) + 4 * row;
  if constexpr (L::kBits == 4) return 64 * t + 4 * row;
  if constexpr (L::kBits == 5) return (i == 0 ? 64 * t : 256) + 4 * row;
  if constexpr (L::kBits == 6) return (i == 0 ? 64 * t : 256 + 64 * (i - 1)) + 4 * row;
  return 64 * i + 4 * row;  // 2 and 3 bits: two planes of pairs, then single bits
}

// n: 0 to 31, or less by 32.
TQ_HOST_DEVICE uint32_t RotateRight(uint32_t word, int n) {
  return word >> (n & 31) | word << (-n & 31);
}

// Plane words -> codes, before the level table and with 8-bit codes still unsigned. High bits are
// turned to their place at once: what other bits come there is masked.
template <typename L>
TQ_HOST_DEVICE CodeWordPair CodeWords(const PlaneWords<L>& planes, int t) {
  const uint32_t* w = planes.word;
  if constexpr (L::kBits == 8) {
    return {w[0], w[1]};
  } else if constexpr (L::kBits >= 4) {
    CodeWordPair codes = {w[0] & 0x0f0f0f0fu, w[0] >> 4 & 0x0f0f0f0fu};
    if constexpr (L::kBits == 5) {
      codes.low |= RotateRight(w[1], t - 4) & 0x10101010u;
      codes.high |= RotateRight(w[1], t) & 0x10101010u;
    }
    if constexpr (L::kBits == 6) {
      codes.low |= RotateRight(w[1], 2 * t - 4) & 0x30303030u;
      codes.high |= RotateRight(w[2], 2 * t - 4) & 0x30303030u;
    }
    return codes;
  } else {
    CodeWordPair codes = {w[0] >> (2 * t) & 0x03030303u, w[1] >> (2 * t) & 0x03030303u};
    if constexpr (L::kBits == 3) {
      codes.low |= RotateRight(w[2], t - 2) & 0x04040404u;
      codes.high |= RotateRight(w[2], t + 2) & 0x04040404u;
    }
    return codes;
  }
}

// What a lane loads of one row's scales of a group.
template <typename L>
struct ScaleBytes {
  uint16_t d;       // f16
  uint16_t m;       // f16, where there is one: minimum, or the super-block's scale of minima
  uint8_t fine[2];  // of super-blocks: scale and minimum, or one of each half
};

// value = scale * (code - L::kZero) + offset, per half of a group (equal unless L::k16).
struct GroupScale {
  float scale[2];
  float offset[2];
};

// `load`: reads one value through a pointer.
template <typename L, typename Load>
TQ_HOST_DEVICE ScaleBytes<L> LoadScaleBytes(const uint8_t* record, int in_record, int row,
                                            Load&& load) {
  ScaleBytes<L> bytes = {};
  bytes.d = load(reinterpret_cast<const uint16_t*>(record) + row);
  if constexpr (L::kMin) bytes.m = load(reinterpret_cast<const uint16_t*>(record + 32) + row);
  if constexpr (L::kScales == ScaleKind::kSuper32) {
    bytes.fine[0] = load(record + 32 + 16 * in_record + row);
  } else if constexpr (L::kScales == ScaleKind::kSuper16) {
    bytes.fine[0] = load(record + 32 + 32 * in_record + row);
    bytes.fine[1] = load(record + 48 + 32 * in_record + row);
  } else if constexpr (L::kScales == ScaleKind::kSuperMin32 ||
                       L::kScales == ScaleKind::kSuperMin16) {
    bytes.fine[0] = load(record + 64 + 32 * in_record + row);
    bytes.fine[1] = load(record + 80 + 32 * in_record + row);
  }
  return bytes;
}

template <typename L, typename HalfToFloat>
TQ_HOST_DEVICE GroupScale ScaleOf(const ScaleBytes<L>& bytes, HalfToFloat&& to_float) {
  const float d = to_float(bytes.d);
  GroupScale s = {{d, d}, {0.0f, 0.0f}};
  if constexpr (L::kScales == ScaleKind::kHalfMin) {
    s.offset[0] = s.offset[1] = to_float(bytes.m);
  } else if constexpr (L::kScales == ScaleKind::kSuper32) {
    s.scale[0] = s.scale[1] = d * static_cast<float>(static_cast<int8_t>(bytes.fine[0]));
  } else if constexpr (L::kScales == ScaleKind::kSuper16) {
    s.scale[0] = d * static_cast<float>(static_cast<int8_t>(bytes.fine[0]));
    s.scale[1] = d * static_cast<float>(static_cast<int8_t>(bytes.fine[1]));
  } else if constexpr (L::kScales == ScaleKind::kSuperMin32) {
    s.scale[0] = s.scale[1] = d * static_cast<float>(bytes.fine[0]);
    s.offset[0] = s.offset[1] = -(to_float(bytes.m) * static_cast<float>(bytes.fine[1]));
  } else if constexpr (L::kScales == ScaleKind::kSuperMin16) {
    const float dmin = to_float(bytes.m);
    for (int half = 0; half < 2; ++half) {
      s.scale[half] = d * static_cast<float>(bytes.fine[half] & 15);
      s.offset[half] = -(dmin * static_cast<float>(bytes.fine[half] >> 4));
    }
  }
  return s;
}

}  // namespace tq::cuda
