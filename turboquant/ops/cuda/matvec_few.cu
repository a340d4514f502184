// SPDX-License-Identifier: Apache-2.0
// 8-bit products of 5 to 8 tokens with packed weights. Weights and tokens come through shared
// memory (weight_stream.cuh, staged_tokens.cuh): a panel's group is one operand of an integer
// product, rows 2g and 2g + 1 in each lane, 8 tokens are the other one, and every lane ends with
// sums of its own.
#include "turboquant/ops/cuda/decode_group.cuh"
#include "turboquant/ops/cuda/matvec_few.h"
#include "turboquant/ops/cuda/matvec_share.cuh"
#include "turboquant/ops/cuda/staged_tokens.cuh"

namespace tq::cuda {
namespace {

// A value that the compiler keeps in a register instead of making it again.
__device__ __forceinline__ int Opaque(int x) {
  int y;
  asm volatile("mov.b32 %0, %1;" : "=r"(y) : "r"(x));
  return y;
}

// What a lane needs of up to 8 tokens for a group. Columns of tokens that are not there come to
// nothing that anybody reads.
template <typename L>
struct TokenGroup {
  uint2 codes;          // of token g
  float4 scales_sums;   // of tokens 2t and 2t + 1: scale, sum
  float2 half_sums[2];  // where halves of a group have scales of their own

  // Places of the lane in the group's record and half sums.
  __device__ __forceinline__ TokenGroup(const uint8_t* lane_codes, const uint8_t* lane_scales,
                                        const uint8_t* lane_sums)
      : codes(ReadAs<uint2>(lane_codes)), scales_sums(ReadAs<float4>(lane_scales)) {
    if constexpr (L::k16) {
      half_sums[0] = ReadAs<float2>(lane_sums);
      half_sums[1] = ReadAs<float2>(lane_sums + kFewTokens * 4);
    }
  }
};

// Rows 2g and 2g + 1 of a group: an integer product's rows g and g + 8.
template <typename L>
struct RowPair {
  CodeWordPair codes[2];
  GroupScale scales[2];

  // i: the group's number in the unit.
  __device__ __forceinline__ RowPair(const uint8_t* unit, int i, int lane) {
    const int row = (lane >> 2) * 2, t = lane & 3;
    const uint8_t* group = CodesInUnit<L>(unit, i);
    PlaneWords<L> planes[2];
#pragma unroll
    for (int p = 0; p < PlaneWords<L>::kCount; ++p) {
      const auto words = ReadAs<uint2>(group + PlaneOffset<L>(p, row, t));
      planes[0].word[p] = words.x;
      planes[1].word[p] = words.y;
    }
    const uint8_t* record = RecordInUnit<L>(unit, i);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      codes[r] = SignedCodes<L>(planes[r], t);
      scales[r] = ScaleOf<L>(LoadScaleBytes<L>(record, i % L::kGroupsPerRecord, row + r,
                                               [](const auto* p) { return *p; }));
    }
  }
};

// acc: rows 2g, 2g, 2g + 1, 2g + 1 and tokens 2t, 2t + 1, 2t, 2t + 1.
template <typename L>
__device__ __forceinline__ void AddGroup(const RowPair<L>& rows, const TokenGroup<L>& x,
                                         const int (&start)[4], float (&acc)[4]) {
  const float2 scale = {x.scales_sums.x, x.scales_sums.z};
  const auto add = [&](const int(&c)[4], int half, float2 sum) {
    const float zero = -static_cast<float>(L::kZero);
    const float2 shift = {zero * sum.x, zero * sum.y};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float dot = __int_as_float(c[i]) - kMagicFloat;
      const float y = fmaf(dot, i % 2 == 0 ? scale.x : scale.y, i % 2 == 0 ? shift.x : shift.y);
      acc[i] = fmaf(rows.scales[i / 2].scale[half], y, acc[i]);
      if constexpr (L::kMin)
        acc[i] = fmaf(rows.scales[i / 2].offset[half], i % 2 == 0 ? sum.x : sum.y, acc[i]);
    }
  };
  const CodeWordPair &upper = rows.codes[0], &lower = rows.codes[1];
  int c[4];
  if constexpr (L::k16) {
    Mma16(c, start, upper.low, lower.low, x.codes.x);
    add(c, 0, x.half_sums[0]);
    Mma16(c, start, upper.high, lower.high, x.codes.y);
    add(c, 1, x.half_sums[1]);
  } else {
    Mma32(c, start, upper.low, lower.low, upper.high, lower.high, x.codes.x, x.codes.y);
    add(c, 0, {x.scales_sums.y, x.scales_sums.w});
  }
}

// kStaged: tokens are in shared memory; else there is no room, and they are read where they are.
template <typename L, bool kStaged>
__global__ void __launch_bounds__(32 * kMostShareWarps, 1) FewTokensMatVec(const ShareParams p) {
  extern __shared__ __align__(128) uint8_t shared[];
  __shared__ PartSums<kFewTokens> parts;
  const int lane = threadIdx.x % 32, g = lane >> 2, t = lane & 3;
  const PanelShare share(p);
  const UnitRun run = share.Run();
  WeightStream<L> weights = share.Stream<L>(run, shared, lane);
  const FewTokens<L::k16> staged = {shared + p.tokens_at, p.units};
  if constexpr (kStaged) staged.Init();
  LetNextStart();
  WaitForInputs();
  if constexpr (kStaged) staged.Start(p.matvec.records, p.matvec.groups);
  const uint8_t* all_sums = p.matvec.records + int64_t{p.matvec.groups} * kTokenRecordBytes;
  const int start[4] = {Opaque(kMagic), Opaque(kMagic), Opaque(kMagic), Opaque(kMagic)};
  float acc[4] = {};
  WorkOnShare<L, kFewTokens>(
      share, run, weights, parts,
      [&](const uint8_t* unit, int number) {
        if constexpr (kStaged) staged.Wait(number);
        const int first = number * kStreamGroups, groups = p.matvec.groups - first;
        const uint8_t* records = kStaged ? staged.Records(number)
                                         : p.matvec.records + int64_t{first} * kTokenRecordBytes;
        const uint8_t* sums = kStaged ? staged.Sums(number) : all_sums + first * kHalfSumBytes;
        const uint8_t* codes = records + g * kGroupColumns + 8 * t;
        const uint8_t* scales = records + kTokenScales + 16 * t;
        const auto add = [&](int i) {
          const TokenGroup<L> x(codes + i * kTokenRecordBytes, scales + i * kTokenRecordBytes,
                                sums + 8 * t + i * kHalfSumBytes);
          AddGroup(RowPair<L>(unit, i, lane), x, start, acc);
        };
        if (L::kSuper || groups >= kStreamGroups) {
#pragma unroll
          for (int i = 0; i < kStreamGroups; ++i) add(i);
        } else {
#pragma unroll 1
          for (int i = 0; i < groups; ++i) add(i);
        }
      },
      [&](auto&& write) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          write(2 * g + i / 2, 2 * t + i % 2, acc[i]);
          acc[i] = 0.0f;
        }
      });
  FinishShare(share, parts);
}

}  // namespace

bool LaunchFewTokensMatVec(int layout, const MatVecParams& params, cudaStream_t stream) {
  bool launched = false;
  ForLayout(layout, [&]<typename L>() {
    if constexpr (L::kQuantised) {
      LaunchShare<L>(FewTokensMatVec<L, true>, FewTokensMatVec<L, false>, params,
                     FewTokens<L::k16>::Bytes(UnitsOf(params.groups)), stream);
      launched = true;
    }
  });
  return launched;
}

}  // namespace tq::cuda
