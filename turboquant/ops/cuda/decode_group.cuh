// SPDX-License-Identifier: Apache-2.0
// A lane's part of a group of packed weights on the device (places: group_places.h).
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "turboquant/ops/cuda/group_places.h"

namespace tq::cuda {

// Weights are read once: they pass the first-level cache by.
__device__ __forceinline__ uint32_t LoadWord(const uint8_t* p) {
  uint32_t word;
  asm volatile("ld.global.nc.L1::no_allocate.b32 %0, [%1];" : "=r"(word) : "l"(p));
  return word;
}

template <typename L>
__device__ __forceinline__ PlaneWords<L> LoadPlanes(const uint8_t* group, int row, int t) {
  PlaneWords<L> planes;
#pragma unroll
  for (int i = 0; i < PlaneWords<L>::kCount; ++i)
    planes.word[i] = LoadWord(group + PlaneOffset<L>(i, row, t));
  return planes;
}

// The levels of IQ4 that the nibbles of a word stand for, signed: of its low ones, and its high
// ones.
__device__ __forceinline__ CodeWordPair Iq4Levels(uint32_t nibbles) {
  // -127 -104 -83 -65 | -49 -35 -22 -10 | 1 13 25 38 | 53 69 89 113
  constexpr uint32_t kLevels[4] = {0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u};
  // Nibbles as they are select bytes, four at a time: by three bits of each among eight levels,
  // then by the fourth between those of the lower and the upper eight.
  const uint32_t of_eight = nibbles & 0x77777777u;
  const uint32_t of_two = nibbles >> 1 & 0x44444444u | 0x32103210u;
  uint32_t levels[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint32_t eight = of_eight >> (16 * i);
    levels[i] = __byte_perm(__byte_perm(kLevels[0], kLevels[1], eight),
                            __byte_perm(kLevels[2], kLevels[3], eight), of_two >> (16 * i));
  }
  return {__byte_perm(levels[0], levels[1], 0x6420u), __byte_perm(levels[0], levels[1], 0x7531u)};
}

// Codes as signed bytes, L::kZero still to be subtracted.
template <typename L>
__device__ __forceinline__ CodeWordPair SignedCodes(const PlaneWords<L>& planes, int t) {
  if constexpr (L::kTable) {
    return Iq4Levels(planes.word[0]);
  } else {
    CodeWordPair codes = CodeWords<L>(planes, t);
    if constexpr (L::kBits == 8) {
      codes.low ^= 0x80808080u;
      codes.high ^= 0x80808080u;
    }
    return codes;
  }
}

template <typename L>
__device__ __forceinline__ ScaleBytes<L> LoadScaleBytes(const uint8_t* record, int in_record,
                                                        int row) {
  return LoadScaleBytes<L>(record, in_record, row, [](const auto* p) { return __ldg(p); });
}
template <typename L>
__device__ __forceinline__ GroupScale ScaleOf(const ScaleBytes<L>& bytes) {
  return ScaleOf<L>(bytes, [](uint16_t h) { return __half2float(__ushort_as_half(h)); });
}

__device__ __forceinline__ float SignedByte(uint32_t word, int i) {
  return static_cast<float>(static_cast<int8_t>(word >> (8 * i)));
}

// Codes as unsigned bytes, the layout's zero still to be subtracted.
template <typename L>
__device__ __forceinline__ CodeWordPair UnsignedCodes(const PlaneWords<L>& planes, int t) {
  if constexpr (L::kTable) {
    const CodeWordPair levels = Iq4Levels(planes.word[0]);
    return {levels.low ^ 0x80808080u, levels.high ^ 0x80808080u};
  } else {
    return CodeWords<L>(planes, t);
  }
}
// 2^15 + byte i of a word: bits 8 to 15 of 2^15's mantissa. A conversion would take four times as
// long.
inline constexpr int kByteBias = 1 << 15;
__device__ __forceinline__ float BiasedByte(uint32_t word, int i) {
  // 2^15, but the compiler does not know that blocks have one dimension: it would take a constant
  // into the instruction, and copy what picks the byte to a register each time. In constant memory
  // of its own it made a step of one token 7 % slower, all kernels of which start before the one
  // ahead ends.
  const uint32_t exponent = 0x46ffffffu + blockDim.y;
  return __uint_as_float(__byte_perm(word, exponent, 0x7404u | static_cast<uint32_t>(i) << 4));
}
// scale * (byte - zero) + offset, rounded once after the subtraction.
template <typename L>
__device__ __forceinline__ void DecodeBytes(uint32_t word, float scale, float offset, float* w) {
  constexpr int kZero = L::kLayout.zero;
  constexpr float kBias = kByteBias + kZero;
  constexpr bool kOffsetIsExact = L::kScales == ScaleKind::kHalf;  // 11 bits, and no other offset
  if constexpr (kOffsetIsExact) {
    static_assert(kZero % 8 == 0);  // 13 bits of kBias
    offset = -scale * kBias;
  }
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const float biased = BiasedByte(word, j);
    w[j] = fmaf(scale, kOffsetIsExact ? biased : biased - kBias, offset);
  }
}

// What a lane loads of a group for rows g and g + 8, columns 4t..4t+3 and 16+4t..16+4t+3.
template <typename L, bool kQuantised = L::kQuantised>
struct PackedGroup {
  PlaneWords<L> planes[2];
  ScaleBytes<L> scales[2];
};
template <typename L>
struct PackedGroup<L, false> {
  float values[2][8];
};

// Group `group` of a panel.
template <typename L>
__device__ __forceinline__ PackedGroup<L> LoadGroup(const uint8_t* panel, int group, int lane) {
  const int t = lane & 3;
  PackedGroup<L> packed;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = (lane >> 2) + 8 * i;
    if constexpr (L::kQuantised) {
      const uint8_t* record = panel + int64_t{group / L::kGroupsPerRecord} * L::kRecordBytes;
      const int in_record = group % L::kGroupsPerRecord;
      packed.planes[i] =
          LoadPlanes<L>(record + L::kScaleBytes + in_record * L::kGroupBytes, row, t);
      packed.scales[i] = LoadScaleBytes<L>(record, in_record, row);
    } else {
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const int64_t column = int64_t{group} * kGroupColumns + (j < 4 ? 0 : 12) + 4 * t + j;
        const int64_t at = column * kPanelRows + row;
        float& value = packed.values[i][j];
        if constexpr (L::kFormat == BlockFormat::kF32)
          value = __ldg(reinterpret_cast<const float*>(panel) + at);
        if constexpr (L::kFormat == BlockFormat::kF16)
          value = __half2float(__ldg(reinterpret_cast<const __half*>(panel) + at));
        if constexpr (L::kFormat == BlockFormat::kBF16)
          value = __bfloat162float(__ldg(reinterpret_cast<const __nv_bfloat16*>(panel) + at));
      }
    }
  }
  return packed;
}

// The values.
template <typename L>
__device__ __forceinline__ void DecodeGroup(const PackedGroup<L>& packed, int lane,
                                            float (&w)[2][8]) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if constexpr (L::kQuantised) {
      const CodeWordPair codes = UnsignedCodes<L>(packed.planes[i], lane & 3);
      const GroupScale s = ScaleOf<L>(packed.scales[i]);
      DecodeBytes<L>(codes.low, s.scale[0], s.offset[0], w[i]);
      DecodeBytes<L>(codes.high, s.scale[1], s.offset[1], w[i] + 4);
    } else {
#pragma unroll
      for (int j = 0; j < 8; ++j) w[i][j] = packed.values[i][j];
    }
  }
}
template <typename L>
__device__ __forceinline__ void DecodeGroup(const uint8_t* panel, int group, int lane,
                                            float (&w)[2][8]) {
  DecodeGroup<L>(LoadGroup<L>(panel, group, lane), lane, w);
}

// Calls fn.template operator()<LayoutOf<index>>() for the layout with that index.
template <int kIndex = 0, typename Fn>
void ForLayout(int index, Fn&& fn) {
  if constexpr (kIndex < kNumPackedLayouts) {
    if (index == kIndex) return fn.template operator()<LayoutOf<kIndex>>();
    ForLayout<kIndex + 1>(index, static_cast<Fn&&>(fn));
  }
}

}  // namespace tq::cuda
