// SPDX-License-Identifier: Apache-2.0
// What a warp needs of one token for a unit of 8 groups, at 8 bits: read from records, or made of
// floats by the warp itself with the same bits. All blocks of a product do the latter for
// themselves, which takes less long than a kernel ahead that does it once.
// By plain loads: another kernel has written it while this one was there already.
// Lane 4 g + t has the codes of group g, columns 4t.. and 16 + 4t.., and scale and sum of the group
// whose weights' scales it has (matvec_nibbles.cu): 2 t + g / 4.
#pragma once

#include "turboquant/ops/cuda/matvec_block.cuh"
#include "turboquant/ops/cuda/token_records.cuh"

namespace tq::cuda {

inline constexpr int kTokenUnitGroups = 8;

struct TokenUnit {
  uint2 codes;
  float2 scale_sum;  // scale, and scale times sum of codes; zeros behind the last group

  // The unit of groups from `first` on.
  __device__ __forceinline__ void LoadRecords(const MatVecParams& p, int first, int lane) {
    const int g = lane >> 2, t = lane & 3;
    const auto record = [&](int group) {
      return p.records + min(group, p.groups - 1) * TokenRecordBytes(1);
    };
    const int own = first + OwnGroup(lane);
    codes = reinterpret_cast<const uint2*>(record(first + g))[t];
    scale_sum = *reinterpret_cast<const float2*>(record(own) + TokenScales(1));
    if (own >= p.groups) scale_sum = {0.0f, 0.0f};
  }
  __device__ __forceinline__ static int OwnGroup(int lane) { return 2 * (lane & 3) + (lane >> 4); }
};

// The same on its way from floats.
struct FloatUnit {
  float4 low, high;  // of the lane's columns

  __device__ __forceinline__ void Load(const MatVecParams& p, int first, int lane) {
    low = high = {0.0f, 0.0f, 0.0f, 0.0f};
    const int group = first + (lane >> 2);
    if (group >= p.groups) return;
    const auto* x = reinterpret_cast<const float4*>(p.x + group * kGroupColumns) + (lane & 3);
    low = x[0];
    high = x[4];
  }
  // By all lanes of a warp.
  __device__ __forceinline__ TokenUnit Quantized(int lane) const {
    const float largest =
        OfGroup(fmaxf(Largest(low), Largest(high)), [](float a, float b) { return fmaxf(a, b); });
    const TokenScale scale(largest);
    TokenUnit unit;
    unit.codes = {CodesOf(scale, low), CodesOf(scale, high)};
    constexpr int kOnes = 0x01010101;
    const int sum = __dp4a(static_cast<int>(unit.codes.x), kOnes,
                           __dp4a(static_cast<int>(unit.codes.y), kOnes, 0));
    const int total = OfGroup(sum, [](int a, int b) { return a + b; });
    const int from = 4 * TokenUnit::OwnGroup(lane);
    unit.scale_sum = {__shfl_sync(0xffffffffu, scale.scale, from),
                      __shfl_sync(0xffffffffu, scale.scale * static_cast<float>(total), from)};
    return unit;
  }

 private:
  __device__ __forceinline__ static float Largest(const float4& x) {
    return fmaxf(fmaxf(fabsf(x.x), fabsf(x.y)), fmaxf(fabsf(x.z), fabsf(x.w)));
  }
  __device__ __forceinline__ static uint32_t CodesOf(const TokenScale& scale, const float4& x) {
    const auto byte = [&](float value) { return static_cast<uint32_t>(scale.Code(value)) & 255u; };
    return byte(x.x) | byte(x.y) << 8 | byte(x.z) << 16 | byte(x.w) << 24;
  }
  template <typename T, typename Fn>
  __device__ __forceinline__ static T OfGroup(T x, const Fn& both) {
    x = both(x, __shfl_xor_sync(0xffffffffu, x, 1));
    return both(x, __shfl_xor_sync(0xffffffffu, x, 2));
  }
};

}  // namespace tq::cuda
