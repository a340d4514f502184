// SPDX-License-Identifier: Apache-2.0
// Products of up to 8 tokens with packed weights: here f32 ones, which dequantise in registers, and
// 8-bit ones of one token, where a panel's group is the 16 x 32 operand of an integer product and
// dequantising is a scale per row applied to the sums. A block takes one panel of 16 rows; its
// warps share the columns and add up in shared memory.
#include "turboquant/ops/cuda/decode_group.cuh"
#include "turboquant/ops/cuda/linear_kernels.h"
#include "turboquant/ops/cuda/matvec_block.cuh"
#include "turboquant/ops/cuda/matvec_few.h"
#include "turboquant/ops/cuda/matvec_nibbles.h"
#include "turboquant/ops/cuda/token_launch.cuh"
#include "turboquant/ops/cuda/wide_floats.cuh"

namespace tq::cuda {
namespace {

// Groups that a warp loads at once; the next ones are on their way while it computes.
template <typename L>
constexpr int kUnitGroups = PlaneWords<L>::kCount == 1 ? 4 : 2;

// acc: rows g and g + 8. All columns of the operand are the one token's.
template <typename L>
__device__ __forceinline__ void AddGroup(const MatVecParams& args, const PlaneWords<L> (&planes)[2],
                                         const ScaleBytes<L> (&scales)[2], int64_t group, int lane,
                                         float (&acc)[2]) {
  const int t = lane & 3;
  const uint8_t* x = args.records + group * TokenRecordBytes(1);
  const uint2 b = reinterpret_cast<const uint2*>(x)[t];
  const auto scale_sum = *reinterpret_cast<const float2*>(x + TokenScales(1));
  const CodeWordPair upper = SignedCodes<L>(planes[0], t), lower = SignedCodes<L>(planes[1], t);
  const GroupScale w[2] = {ScaleOf<L>(scales[0]), ScaleOf<L>(scales[1])};
  const auto add = [&](const int(&c)[4], int half, float sum) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float dot = __int_as_float(c[2 * i]) - kMagicFloat;
      const float y = fmaf(dot, scale_sum.x, -static_cast<float>(L::kZero) * sum);
      acc[i] = fmaf(w[i].scale[half], y, acc[i]);
      if constexpr (L::kMin) acc[i] = fmaf(w[i].offset[half], sum, acc[i]);
    }
  };
  int c[4] = {kMagic, kMagic, kMagic, kMagic};
  if constexpr (L::k16) {
    const auto half_sums = *reinterpret_cast<const float2*>(
        args.records + int64_t{args.groups} * TokenRecordBytes(1) + group * HalfSumBytes(1));
    Mma16(c, c, upper.low, lower.low, b.x);
    add(c, 0, half_sums.x);
    c[0] = c[1] = c[2] = c[3] = kMagic;
    Mma16(c, c, upper.high, lower.high, b.y);
    add(c, 1, half_sums.y);
  } else {
    Mma32(c, c, upper.low, lower.low, upper.high, lower.high, b.x, b.y);
    add(c, 0, scale_sum.y);
  }
}

// What a lane holds of one unit of its warp, groups [first, first + kGroups) of the panel. Scales
// lie in other sectors than codes: they are on their way together.
template <typename L>
struct Unit {
  static constexpr int kGroups = kUnitGroups<L>;
  PlaneWords<L> planes[kGroups][2];
  ScaleBytes<L> scales[kGroups][2];

  __device__ __forceinline__ void Load(const MatVecParams& args, const uint8_t* panel, int first,
                                       int lane) {
    const int g = lane >> 2, t = lane & 3;
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      const int group = min(first + i, args.groups - 1);
      const int in_record = group % L::kGroupsPerRecord;
      const uint8_t* record = panel + group / L::kGroupsPerRecord * L::kRecordBytes;
      const uint8_t* codes = record + L::kScaleBytes + in_record * L::kGroupBytes;
      planes[i][0] = LoadPlanes<L>(codes, g, t);
      planes[i][1] = LoadPlanes<L>(codes, g + 8, t);
      scales[i][0] = LoadScaleBytes<L>(record, in_record, g);
      scales[i][1] = LoadScaleBytes<L>(record, in_record, g + 8);
    }
  }
  __device__ __forceinline__ void Add(const MatVecParams& args, int first, int lane,
                                      float (&acc)[2]) const {
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      if (first + i < args.groups) AddGroup<L>(args, planes[i], scales[i], first + i, lane, acc);
    }
  }
};

template <typename L>
__global__ void __launch_bounds__(kMatVecThreads, 3) MatVecInt8(const MatVecParams args) {
  __shared__ float sums[kMatVecWarps * kPanelRows];
  const int warp = threadIdx.x / 32, warps = blockDim.x / 32, lane = threadIdx.x % 32;
  const int g = lane >> 2, t = lane & 3;
  const uint8_t* panel = args.panels + blockIdx.x * args.panel_bytes;
  const int step = warps * Unit<L>::kGroups;
  int first = warp * Unit<L>::kGroups;
  Unit<L> unit;
  if (first < args.groups) unit.Load(args, panel, first, lane);  // weights never change
  LetNextStart();
  WaitForInputs();
  float acc[2] = {};
  while (first < args.groups) {
    Unit<L> next;
    if (first + step < args.groups) next.Load(args, panel, first + step, lane);
    unit.Add(args, first, lane, acc);
    unit = next;
    first += step;
  }
  if (t == 0) {
    sums[warp * kPanelRows + g] = acc[0];
    sums[warp * kPanelRows + g + 8] = acc[1];
  }
  FinishPanel<1>(args, sums);
}

// f32 products, kT tokens at most.
template <typename L, int kT>
__global__ void __launch_bounds__(kMatVecThreads) MatVecFloat(const MatVecParams args) {
  __shared__ float sums[kMatVecWarps * kPanelRows * kT];
  const int warp = threadIdx.x / 32, warps = blockDim.x / 32, lane = threadIdx.x % 32;
  const int g = lane >> 2, t = lane & 3;
  const uint8_t* panel = args.panels + blockIdx.x * args.panel_bytes;
  LetNextStart();
  WaitForInputs();
  float acc[2][kT] = {};
  for (int group = warp; group < args.groups; group += warps) {
    float w[2][8];
    DecodeGroup<L>(panel, group, lane, w);
#pragma unroll
    for (int token = 0; token < kT; ++token) {
      if (token >= args.tokens) break;
      const float* x = args.x + token * args.x_stride + group * kGroupColumns + 4 * t;
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const float value = x[j < 4 ? j : 12 + j];
        acc[0][token] = fmaf(w[0][j], value, acc[0][token]);
        acc[1][token] = fmaf(w[1][j], value, acc[1][token]);
      }
    }
  }
  float* mine = sums + warp * kPanelRows * kT;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int token = 0; token < kT; ++token) {
      float sum = acc[i][token];
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      sum += __shfl_xor_sync(0xffffffffu, sum, 2);
      if (t == 0) mine[(g + 8 * i) * kT + token] = sum;
    }
  }
  FinishPanel<kT>(args, sums);
}

// Warps per panel: no more than there is work for. A block of few warps lasts longer, and at a
// kernel's end multiprocessors wait for their last ones (four for many panels: 1 % of a
// step of one token).
unsigned WarpsFor(int groups) {
  const auto units = static_cast<unsigned>((groups + 3) / 4);
  unsigned warps = kMatVecWarps;
  while (warps > 1 && warps > units) warps /= 2;
  return warps;
}

}  // namespace

bool QuantisesFloats(const DeviceWeight& weight, MatrixView<const float> x) {
  const PackedLayout& layout = kPackedLayouts[static_cast<size_t>(weight.layout)];
  return x.rows == 1 && HasQuads(x.data, x.stride) && layout.quantised() && layout.bits == 4;
}

void LaunchMatVec(const MatVecCall& call, cudaStream_t stream) {
  const DeviceWeight& w = call.weight;
  const int64_t panels = (w.rows + kPanelRows - 1) / kPanelRows;
  MatVecParams args;
  args.panels = w.panels;
  args.panel_bytes = w.panel_bytes;
  args.groups = static_cast<int>(w.cols / kGroupColumns);
  args.rows = static_cast<int>(w.rows);
  args.tokens = static_cast<int>(call.x.rows);
  args.records = call.records;
  args.x = call.x.data;
  args.x_stride = call.x.stride;
  args.bias = call.bias;
  args.out = call.out.data;
  args.out_stride = call.out.stride;
  args.accumulate = call.accumulate;
  const unsigned threads = 32 * WarpsFor(args.groups);
  const dim3 grid(static_cast<unsigned>(panels));
  if ((call.records != nullptr || call.quantises) && args.tokens == 1 &&
      LaunchNibbleMatVec(w.layout, args, grid.x, threads, stream))
    return;
  if (call.records != nullptr && args.tokens > 1 && LaunchFewTokensMatVec(w.layout, args, stream))
    return;
  ForLayout(w.layout, [&]<typename L>() {
    if constexpr (L::kQuantised && L::kBits != 4) {
      if (call.records != nullptr) {
        LaunchForTokens(args.tokens, MatVecInt8<L>, grid, threads, stream, args);
        return;
      }
    }
    if (args.tokens == 1) {
      LaunchForTokens(args.tokens, MatVecFloat<L, 1>, grid, threads, stream, args);
    } else {
      LaunchForTokens(args.tokens, MatVecFloat<L, kFewTokens>, grid, threads, stream, args);
    }
  });
}

}  // namespace tq::cuda
