// SPDX-License-Identifier: Apache-2.0
// A block has one panel of 16 rows, whose columns its warps share. A lane loads 16 bytes at a time,
// the values of 8 rows (4 of f32) of one column, and multiplies them by what its tokens have there:
// it has sums of its rows for all tokens, which in the end lanes of other columns add theirs to.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "turboquant/ops/cuda/decode_group.cuh"
#include "turboquant/ops/cuda/matvec_block.cuh"
#include "turboquant/ops/cuda/matvec_floats.h"
#include "turboquant/ops/cuda/token_launch.cuh"

namespace tq::cuda {
namespace {

// 16 bytes of a column.
template <typename L>
struct Piece {
  static constexpr int kValueBytes = L::kFormat == BlockFormat::kF32 ? 4 : 2;
  static constexpr int kRows = 16 / kValueBytes;
  static constexpr int kOfColumn = kPanelRows / kRows;
  static constexpr int kColumns = 32 / kOfColumn;  // that a warp loads at a time

  uint4 words;

  __device__ __forceinline__ void Load(const uint8_t* p) {
    asm volatile("ld.global.nc.L1::no_allocate.v4.b32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
                 : "l"(p));
  }
  __device__ __forceinline__ void Values(float (&values)[kRows]) const {
    const uint32_t w[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if constexpr (L::kFormat == BlockFormat::kF32) {
        values[i] = __uint_as_float(w[i]);
      } else {
        float2 two;
        if constexpr (L::kFormat == BlockFormat::kF16) {
          two = __half22float2(reinterpret_cast<const __half2&>(w[i]));
        } else {
          two = {__uint_as_float(w[i] << 16), __uint_as_float(w[i] & 0xffff0000u)};
        }
        values[2 * i] = two.x;
        values[2 * i + 1] = two.y;
      }
    }
  }
};

// Adds up `sums` over lanes that differ in bits kBit to 16 of their numbers. A lane gives half of
// what it has to another one and goes on with the other half, until it has one sum. Returns which
// was sums[0].
template <int kBit, int kCount>
__device__ __forceinline__ int AddLanes(float* sums, int lane) {
  if constexpr (kBit == 32) {
    return 0;
  } else if constexpr (kCount == 1) {
    sums[0] += __shfl_xor_sync(0xffffffffu, sums[0], kBit);
    return AddLanes<2 * kBit, 1>(sums, lane);
  } else {
    constexpr int kHalf = kCount / 2;
    const bool upper = (lane & kBit) != 0;
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
      const float given = upper ? sums[i] : sums[kHalf + i];
      const float kept = upper ? sums[kHalf + i] : sums[i];
      sums[i] = kept + __shfl_xor_sync(0xffffffffu, given, kBit);
    }
    return (upper ? kHalf : 0) + AddLanes<2 * kBit, kHalf>(sums, lane);
  }
}

template <typename L, int kTokens>
__global__ void __launch_bounds__(kMatVecThreads, kTokens <= 2 ? 3 : 2)
    FloatMatVec(const MatVecParams p) {
  using P = Piece<L>;
  constexpr int kUnitPieces = kTokens <= 4 ? 4 : 2;  // that a lane loads at once: registers
  constexpr int kUnit = kUnitPieces * P::kColumns;
  __shared__ float shared[kMatVecWarps * kPanelRows * kTokens];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int columns = p.groups * kGroupColumns, step = static_cast<int>(blockDim.x) / 32 * kUnit;
  const uint8_t* panel = p.panels + blockIdx.x * p.panel_bytes + lane * 16;
  const int own_column = lane / P::kOfColumn;
  P pieces[2][kUnitPieces];
  // A warp's columns of a load are all there or none of them: columns are a multiple of 32.
  const auto load = [&](P(&unit)[kUnitPieces], int first) {
#pragma unroll
    for (int i = 0; i < kUnitPieces; ++i) {
      const int column = first + i * P::kColumns;
      if (column < columns) unit[i].Load(panel + int64_t{column} * (kPanelRows * P::kValueBytes));
    }
  };
  int first = warp * kUnit;
  load(pieces[0], first);  // weights never change
  load(pieces[1], first + step);
  LetNextStart();
  WaitForInputs();
  float sums[P::kRows * kTokens] = {};  // [rows][tokens]
#pragma unroll 1
  while (first < columns) {
#pragma unroll
    for (int u = 0; u < 2; ++u) {
#pragma unroll
      for (int i = 0; i < kUnitPieces; ++i) {
        const int column = first + i * P::kColumns;
        if (column >= columns) break;
        float x[kTokens];
#pragma unroll
        for (int token = 0; token < kTokens; ++token)  // any will do in place of those not there
          x[token] = p.x[min(token, p.tokens - 1) * p.x_stride + column + own_column];
        float values[P::kRows];
        pieces[u][i].Values(values);
#pragma unroll
        for (int n = 0; n < P::kRows * kTokens; ++n)
          sums[n] = fmaf(values[n / kTokens], x[n % kTokens], sums[n]);
      }
      load(pieces[u], first + 2 * step);
      first += step;
    }
  }
  constexpr int kSums = P::kRows * kTokens;
  const int at = AddLanes<P::kOfColumn, kSums>(sums, lane);
  constexpr int kLeft = kSums > P::kColumns ? kSums / P::kColumns : 1;
  float* own = shared + warp * kPanelRows * kTokens + lane % P::kOfColumn * kSums + at;
#pragma unroll
  for (int n = 0; n < kLeft; ++n) own[n] = sums[n];
  FinishPanel<kTokens>(p, shared);
}

}  // namespace

bool LaunchFloatMatVec(int layout, const MatVecParams& params, unsigned panels, unsigned threads,
                       cudaStream_t stream) {
  bool launched = false;
  ForLayout(layout, [&]<typename L>() {
    if constexpr (!L::kQuantised) {
      const auto launch = [&](void (*kernel)(MatVecParams)) {
        LaunchForTokens(params.tokens, kernel, dim3(panels), threads, stream, params);
      };
      switch (params.places) {
        case 1:
          launch(FloatMatVec<L, 1>);
          break;
        case 2:
          launch(FloatMatVec<L, 2>);
          break;
        case 4:
          launch(FloatMatVec<L, 4>);
          break;
        default:
          launch(FloatMatVec<L, kFewTokens>);
      }
      launched = true;
    }
  });
  return launched;
}

}  // namespace tq::cuda
