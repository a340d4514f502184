// SPDX-License-Identifier: Apache-2.0
// Products of up to 8 tokens with packed weights: here f32 ones with quantised weights, which are
// decoded in registers. A block takes one panel of 16 rows; its warps share the columns and add up
// in shared memory.
#include "turboquant/ops/cuda/decode_group.cuh"
#include "turboquant/ops/cuda/linear_kernels.h"
#include "turboquant/ops/cuda/matvec_block.cuh"
#include "turboquant/ops/cuda/matvec_few.h"
#include "turboquant/ops/cuda/matvec_floats.h"
#include "turboquant/ops/cuda/matvec_registers.h"
#include "turboquant/ops/cuda/token_launch.cuh"
#include "turboquant/ops/cuda/wide_floats.cuh"

namespace tq::cuda {
namespace {

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
  return x.rows == 1 && HasQuads(x.data, x.stride) && layout.quantised();
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
  args.places = TokenPlaces(call.x.rows);
  args.x = call.x.data;
  args.x_stride = call.x.stride;
  args.bias = call.bias;
  args.out = call.out.data;
  args.out_stride = call.out.stride;
  args.accumulate = call.accumulate;
  const unsigned threads = 32 * WarpsFor(args.groups);
  const dim3 grid(static_cast<unsigned>(panels));
  const bool int8 = call.records != nullptr || call.quantises;
  if (int8 && (LaunchRegisterMatVec(w.layout, args, grid.x, threads, stream) ||
               LaunchFewTokensMatVec(w.layout, args, stream)))
    return;
  if (LaunchFloatMatVec(w.layout, args, grid.x, threads, stream)) return;
  ForLayout(w.layout, [&]<typename L>() {
    if constexpr (L::kQuantised) {
      LaunchForTokens(args.tokens,
                      args.tokens == 1 ? MatVecFloat<L, 1> : MatVecFloat<L, kFewTokens>, grid,
                      threads, stream, args);
    }
  });
}

}  // namespace tq::cuda
