// SPDX-License-Identifier: Apache-2.0
// 8-bit products of up to 8 tokens. A block has one panel of 16 rows, whose columns its warps share
// unit by unit: a group of weights is the 16 x 32 operand of an integer product, the other one has
// a column per token and group (token_unit.cuh), so that every lane ends with sums whose scales it
// has. While a warp works on one unit the next one is on its way to registers.
#include "turboquant/ops/cuda/matvec_block.cuh"
#include "turboquant/ops/cuda/matvec_registers.h"
#include "turboquant/ops/cuda/token_launch.cuh"
#include "turboquant/ops/cuda/token_unit.cuh"
#include "turboquant/ops/cuda/weight_unit.cuh"

namespace tq::cuda {
namespace {

// Groups of a unit, and blocks that share a multiprocessor's registers. Long units have more
// weights on their way, short ones leave room for more blocks, which pays where not all panels have
// theirs at once. 28672 x 4096, 2 tokens, Q4_0, H200: 18.2 us of short ones, 19.4 of long ones;
// 4096 x 14336: 12.4 and 9.7.
struct UnitShape {
  int groups, blocks;
};
template <typename L>
constexpr UnitShape ShapeFor(int tokens, bool all_at_once) {
  constexpr bool kFewWords = L::kBits == 4;
  if (tokens == 1) return {L::k16 ? 4 : 8, kFewWords && L::kScales == ScaleKind::kHalf ? 3 : 2};
  if (tokens == 2) {
    if (L::k16) return {4, 2};
    return all_at_once ? UnitShape{8, 2} : UnitShape{4, 3};
  }
  return {4, kFewWords && tokens == 4 && !all_at_once ? 3 : 2};
}

// acc: sums of the lane's two rows and its tokens.
template <typename L, int kTokens, int kUnitGroups,
          typename Columns = TokenColumns<kTokens, kUnitGroups>>
__device__ __forceinline__ void AddUnit(const WeightUnit<L, kTokens, kUnitGroups>& weights,
                                        const TokenUnit<kTokens, kUnitGroups, L::k16>& x, int lane,
                                        float (&acc)[2][Columns::kOwnTokens]) {
  constexpr int kSums = L::k16 ? 2 : 1;
  const Columns columns(lane);
#pragma unroll
  for (int i = 0; i < Columns::kOperands; ++i) {
    int dots[kSums][4];
#pragma unroll
    for (int j = 0; j < 4 * kSums; ++j) dots[j / 4][j % 4] = kMagic;
#pragma unroll
    for (int group = 0; group < Columns::kGroups; ++group) {
      const bool here = Columns::kStride == 1 || columns.code_group == group;
      const uint32_t low = here ? x.codes[i].x : 0u, high = here ? x.codes[i].y : 0u;
      CodeWordPair rows[2];
      weights.Codes(i * Columns::kGroups + group, lane & 3, rows);
      if constexpr (L::k16) {
        Mma16(dots[0], dots[0], rows[0].low, rows[1].low, low);
        Mma16(dots[1], dots[1], rows[0].high, rows[1].high, high);
      } else {
        Mma32(dots[0], dots[0], rows[0].low, rows[1].low, rows[0].high, rows[1].high, low, high);
      }
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int row = j / 2, k = j % 2;
      const GroupScale w =
          weights.scales.Of(i * Columns::kOwnGroups + k % Columns::kOwnGroups, row);
      float& sum = acc[row][k / Columns::kOwnGroups];
#pragma unroll
      for (int h = 0; h < kSums; ++h) {
        const float dot = __int_as_float(dots[h][j]) - kMagicFloat, x_sum = x.sum[i][h][k];
        const float y = fmaf(dot, x.scale[i][k], -static_cast<float>(L::kZero) * x_sum);
        sum = fmaf(w.scale[h], y, sum);
        if constexpr (L::kMin) sum = fmaf(w.offset[h], x_sum, sum);
      }
    }
  }
}

// kFloats: the token comes as floats.
template <typename L, bool kFloats, int kTokens, int kUnitGroups, int kBlocks>
__global__ void __launch_bounds__(kMatVecThreads, kBlocks) RegisterMatVec(const MatVecParams p) {
  using Weights = WeightUnit<L, kTokens, kUnitGroups>;
  using Tokens = TokenUnit<kTokens, kUnitGroups, L::k16>;
  using Columns = TokenColumns<kTokens, kUnitGroups>;
  __shared__ float sums[kMatVecWarps * kPanelRows * kTokens];
  const int warp = threadIdx.x / 32, warps = blockDim.x / 32, lane = threadIdx.x % 32;
  const uint8_t* panel = p.panels + blockIdx.x * p.panel_bytes;
  const int step = warps * kUnitGroups;
  int first = warp * kUnitGroups;
  const auto whole = [&](int from) { return L::kSuper || from + kUnitGroups <= p.groups; };
  Weights weights[2];
  const auto load_weights = [&](Weights& to, int from) {
    if (whole(from)) {
      to.template Load<true>(p, panel, from, lane);
    } else if constexpr (!L::kSuper) {
      to.template Load<false>(p, panel, from, lane);
    }
  };
  const auto load_tokens = [&](Tokens& to, int from) {
    if constexpr (kFloats) {
      FloatUnit<kUnitGroups, L::k16> floats;
      floats.Load(p, from, lane);
      to = floats.Quantized(lane);
    } else if (whole(from)) {
      to.template Load<true>(p, from, lane);
    } else if constexpr (!L::kSuper) {
      to.template Load<false>(p, from, lane);
    }
  };
#pragma unroll
  for (int i = 0; i < 2; ++i) {  // weights never change
    const int from = first + i * step;
    if (from < p.groups) load_weights(weights[i], from);
  }
  LetNextStart();
  WaitForInputs();
  Tokens tokens[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int from = first + i * step;
    if (from < p.groups) load_tokens(tokens[i], from);
  }
  float acc[2][Columns::kOwnTokens] = {};
#pragma unroll 1
  while (first < p.groups) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (i == 1 && first >= p.groups) break;
      AddUnit<L, kTokens, kUnitGroups>(weights[i], tokens[i], lane, acc);
      const int next = first + 2 * step;
      if (next < p.groups) {
        load_weights(weights[i], next);
        load_tokens(tokens[i], next);
      }
      first += step;
    }
  }
  const Columns columns(lane);
#pragma unroll
  for (int i = 0; i < 2 * Columns::kOwnTokens; ++i) {
    const int row = i % 2, token = i / 2;
    // Lanes that have other groups of the same token.
    float sum = acc[row][token];
    if constexpr (Columns::kStride > 2) sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    if constexpr (Columns::kStride > 4) sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    if (columns.own && columns.own_group == 0)
      sums[(warp * kPanelRows + 2 * (lane >> 2) + row) * kTokens + columns.own_token + token] = sum;
  }
  FinishPanel<kTokens>(p, sums);
}

// All panels have their blocks at once.
bool AllAtOnce(unsigned panels) {
  constexpr int kBlocks = 2;
  return static_cast<int>(panels) <= kBlocks * Multiprocessors();
}

}  // namespace

bool LaunchRegisterMatVec(int layout, const MatVecParams& params, unsigned panels, unsigned threads,
                          cudaStream_t stream) {
  bool launched = false;
  const auto launch = [&](void (*kernel)(MatVecParams)) {
    LaunchForTokens(params.tokens, kernel, dim3(panels), threads, stream, params);
    launched = true;
  };
  const bool all_at_once = AllAtOnce(panels);
  const auto launch_shape = [&]<typename L, int kTokens, bool kAllAtOnce>() {
    constexpr UnitShape kShape = ShapeFor<L>(kTokens, kAllAtOnce);
    launch(RegisterMatVec<L, false, kTokens, kShape.groups, kShape.blocks>);
  };
  const auto launch_tokens = [&]<typename L, int kTokens>() {
    all_at_once ? launch_shape.template operator()<L, kTokens, true>()
                : launch_shape.template operator()<L, kTokens, false>();
  };
  ForLayout(layout, [&]<typename L>() {
    if constexpr (L::kQuantised) {
      if (params.records == nullptr) {
        constexpr UnitShape kShape = ShapeFor<L>(1, true);
        launch(RegisterMatVec<L, true, 1, kShape.groups, kShape.blocks>);
      } else if (params.places == 1) {
        launch_tokens.template operator()<L, 1>();
      } else if (params.places == 2) {
        launch_tokens.template operator()<L, 2>();
      } else if (params.places == 4) {
        launch_tokens.template operator()<L, 4>();
      } else if constexpr (!L::k16) {
        if (all_at_once) launch_shape.template operator()<L, kFewTokens, true>();
      }
    }
  });
  return launched;
}

}  // namespace tq::cuda
