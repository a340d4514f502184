// SPDX-License-Identifier: Apache-2.0
// What a warp needs of few tokens for a unit of groups, at 8 bits: read from records, or (one
// token) made of floats by the warp itself with the same bits. All blocks of a product do the
// latter for themselves, which takes less long than a kernel ahead that does it once; of two tokens
// as long, of four longer. By plain loads: another kernel has written it while this one was there
// already.
#pragma once

#include "turboquant/ops/cuda/matvec_block.cuh"
#include "turboquant/ops/cuda/token_records.cuh"

namespace tq::cuda {

// The 8 columns of an integer product's second operand are tokens x groups: token after token, each
// with as many groups as there are columns for, or as the unit has. Products of one group after the
// other add up in columns of their own, those of the other groups being zero.
// Lane 4 g + t has the codes of column g, and ends with sums of columns 2t and 2t + 1: of two
// groups of a token, or of two tokens.
template <int kTokens, int kUnitGroups>
struct TokenColumns {
  static constexpr int kStride = 8 / kTokens;  // from one token to the next
  static constexpr int kGroups = kStride < kUnitGroups ? kStride : kUnitGroups;
  static constexpr int kOperands = kUnitGroups / kGroups;  // of a unit
  static constexpr int kOwnGroups = kGroups > 1 ? 2 : 1, kOwnTokens = 2 / kOwnGroups;

  // Of the lane's codes, and of the first column of its sums. A unit may have fewer groups than
  // there are columns: others then stand for them, and come to nothing.
  int code_token, code_group, own_token, own_group;
  bool own;

  __device__ __forceinline__ explicit TokenColumns(int lane)
      : code_token((lane >> 2) / kStride),
        code_group((lane >> 2) % kStride),
        own_token(2 * (lane & 3) / kStride),
        own_group(2 * (lane & 3) % kStride % kGroups),
        own(2 * (lane & 3) % kStride < kGroups) {}
};

// kHalves: halves of a group have sums of their own.
template <int kTokens, int kUnitGroups, bool kHalves>
struct TokenUnit {
  using Columns = TokenColumns<kTokens, kUnitGroups>;
  static constexpr int kSums = kHalves ? 2 : 1;

  uint2 codes[Columns::kOperands];
  float scale[Columns::kOperands][2];       // of the lane's own columns
  float sum[Columns::kOperands][kSums][2];  // scale * sum of codes

  // Of records, groups from `first` on. kWhole: all of them are there; else those behind the last
  // one come to nothing.
  template <bool kWhole>
  __device__ __forceinline__ void Load(const MatVecParams& p, int first, int lane) {
    constexpr int kRecord = TokenRecordBytes(kTokens), kHalfSums = HalfSumBytes(kTokens);
    const Columns columns(lane);
    const int last = p.groups - 1;
    const int code_group = first + columns.code_group % Columns::kGroups;
    const int own_group = first + columns.own_group;
    const int codes_at = columns.code_token * kGroupColumns + 8 * (lane & 3);
    const int scales_at = TokenScales(kTokens) + 8 * columns.own_token;
    const uint8_t* first_codes = p.records + int64_t{code_group} * kRecord + codes_at;
    const uint8_t* first_scales = p.records + int64_t{own_group} * kRecord + scales_at;
    const uint8_t* all_sums = p.records + int64_t{p.groups} * kRecord + 4 * columns.own_token;
    const uint8_t* first_sums = all_sums + int64_t{own_group} * kHalfSums;
#pragma unroll
    for (int i = 0; i < Columns::kOperands; ++i) {
      const int code = i * Columns::kGroups;
      codes[i] = *reinterpret_cast<const uint2*>(
          kWhole ? first_codes + code * kRecord
                 : p.records + min(code_group + code, last) * kRecord + codes_at);
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        const int group = code + k % Columns::kOwnGroups, token = k / Columns::kOwnGroups;
        const int clamped = kWhole ? 0 : min(own_group + group, last);
        const bool there = columns.own && (kWhole || own_group + group <= last);
        const float2 both = reinterpret_cast<const float2*>(kWhole ? first_scales + group * kRecord
                                                                   : p.records + clamped * kRecord +
                                                                         scales_at)[token];
        scale[i][k] = there ? both.x : 0.0f;
        if constexpr (kHalves) {
          const auto* sums = reinterpret_cast<const float*>(
              kWhole ? first_sums + group * kHalfSums : all_sums + clamped * kHalfSums);
          sum[i][0][k] = there ? sums[token] : 0.0f;
          sum[i][1][k] = there ? sums[kTokens + token] : 0.0f;
        } else {
          sum[i][0][k] = there ? both.y : 0.0f;
        }
      }
    }
  }
};

// The same of one token's floats.
template <int kUnitGroups, bool kHalves>
struct FloatUnit {
  using Unit = TokenUnit<1, kUnitGroups, kHalves>;
  using Columns = typename Unit::Columns;

  float4 low, high;  // the lane's codes

  __device__ __forceinline__ void Load(const MatVecParams& p, int first, int lane) {
    low = high = {0.0f, 0.0f, 0.0f, 0.0f};
    const int group = first + Columns(lane).code_group;
    if (group - first >= Columns::kGroups || group >= p.groups) return;
    const auto* x =
        reinterpret_cast<const float4*>(p.x + int64_t{group} * kGroupColumns) + (lane & 3);
    low = x[0];
    high = x[4];
  }
  // By all lanes of a warp.
  __device__ __forceinline__ Unit Quantized(int lane) const {
    const float largest =
        OfGroup(fmaxf(Largest(low), Largest(high)), [](float a, float b) { return fmaxf(a, b); });
    const TokenScale scale(largest);
    Unit unit;
    unit.codes[0] = {CodesOf(scale, low), CodesOf(scale, high)};
    constexpr int kOnes = 0x01010101;
    const int low_sum = __dp4a(static_cast<int>(unit.codes[0].x), kOnes, 0);
    const int high_sum = __dp4a(static_cast<int>(unit.codes[0].y), kOnes, kHalves ? 0 : low_sum);
    const auto add = [](int a, int b) { return a + b; };
    float sums[Unit::kSums];
    if constexpr (kHalves) sums[0] = scale.scale * static_cast<float>(OfGroup(low_sum, add));
    sums[Unit::kSums - 1] = scale.scale * static_cast<float>(OfGroup(high_sum, add));
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const int from = 4 * (2 * (lane & 3) + k);  // a lane that has the column's codes
      unit.scale[0][k] = __shfl_sync(0xffffffffu, scale.scale, from);
#pragma unroll
      for (int h = 0; h < Unit::kSums; ++h)
        unit.sum[0][h][k] = __shfl_sync(0xffffffffu, sums[h], from);
    }
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
