// SPDX-License-Identifier: Apache-2.0
// Weights out of their packed form (for products of many tokens, embeddings), and tokens into 8
// bits.
#include "turboquant/base/cuda/bf16_quad.cuh"
#include "turboquant/base/cuda/chained_launch.cuh"
#include "turboquant/ops/cuda/decode_group.cuh"
#include "turboquant/ops/cuda/linear_kernels.h"
#include "turboquant/ops/cuda/token_launch.cuh"
#include "turboquant/ops/cuda/token_records.cuh"
#include "turboquant/ops/random_panels.h"

namespace tq::cuda {
namespace {

constexpr int kWarps = 8;

// A lane's values of one row of a group, columns 4t.. and 16 + 4t.., as they are written.
__device__ __forceinline__ void StoreGroup(const float (&w)[8], int t, bool wanted, float* row) {
  if (!wanted) return;
  reinterpret_cast<float4*>(row)[t] = make_float4(w[0], w[1], w[2], w[3]);
  reinterpret_cast<float4*>(row)[t + 4] = make_float4(w[4], w[5], w[6], w[7]);
}
// 16 bytes a lane: two neighbours put their columns of one half together, the even one of the first
// half.
__device__ __forceinline__ void StoreGroup(const float (&w)[8], int t, bool wanted,
                                           __nv_bfloat16* row) {
  const uint2 first = ToBf16Quad({w[0], w[1], w[2], w[3]});
  const uint2 second = ToBf16Quad({w[4], w[5], w[6], w[7]});
  const bool odd = (t & 1) != 0;
  const uint32_t x = __shfl_xor_sync(0xffffffffu, odd ? first.x : second.x, 1);
  const uint32_t y = __shfl_xor_sync(0xffffffffu, odd ? first.y : second.y, 1);
  const uint4 both =
      odd ? make_uint4(x, y, second.x, second.y) : make_uint4(first.x, first.y, x, y);
  if (wanted) reinterpret_cast<uint4*>(row)[odd ? 2 + t / 2 : t / 2] = both;
}

// Loads on their way at a time: kernels of other streams may leave little room for blocks.
template <typename L>
inline constexpr int kGroupsOfWarp = L::kQuantised ? 4 : 2;

// Blocks: panels x runs of kWarps * kGroupsOfWarp groups. out: row-major from the first panel's
// first row. Weights never change: they are loaded before `out` is free.
template <typename L, typename Out>
__global__ void __launch_bounds__(32 * kWarps)
    Dequantize(const uint8_t* panels, int64_t panel_bytes, int groups, int64_t rows, Out* out) {
  LetNextStart();
  constexpr int kGroups = kGroupsOfWarp<L>;
  const int first = static_cast<int>(blockIdx.y * kWarps + threadIdx.x / 32) * kGroups;
  const int lane = threadIdx.x % 32, g = lane >> 2, t = lane & 3;
  const uint8_t* panel = panels + blockIdx.x * panel_bytes;
  PackedGroup<L> packed[kGroups] = {};
#pragma unroll
  for (int n = 0; n < kGroups; ++n) {
    if (first + n < groups) packed[n] = LoadGroup<L>(panel, first + n, lane);
  }
  WaitForInputs();
  const int64_t cols = int64_t{groups} * kGroupColumns;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kPanelRows + g;
  Out* to = out + row * cols + int64_t{first} * kGroupColumns;
#pragma unroll
  for (int n = 0; n < kGroups; ++n) {
    float w[2][8];
    DecodeGroup<L>(packed[n], lane, w);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      StoreGroup(w[i], t, row + 8 * i < rows && first + n < groups,
                 to + 8 * i * cols + n * kGroupColumns);
    }
  }
}

template <typename Out>
void LaunchDequantize(const DeviceWeight& weight, int64_t first_row, int64_t rows, Out* out,
                      cudaStream_t stream) {
  const uint8_t* panels = weight.panels + first_row / kPanelRows * weight.panel_bytes;
  ForLayout(weight.layout, [&]<typename L>() {
    constexpr int64_t kColumns = kWarps * kGroupsOfWarp<L> * kGroupColumns;  // of a block
    const dim3 grid(static_cast<unsigned>((rows + kPanelRows - 1) / kPanelRows),
                    static_cast<unsigned>((weight.cols + kColumns - 1) / kColumns));
    LaunchChained(Dequantize<L, Out>, grid, 32 * kWarps, stream, panels, weight.panel_bytes,
                  weight.cols / kGroupColumns, rows, out);
  });
}

// Blocks: tokens x runs of kWarps groups. A warp decodes the panel's group and keeps the one row.
template <typename L>
__global__ void __launch_bounds__(32 * kWarps)
    Embed(const uint8_t* panels, int64_t panel_bytes, int64_t cols, const int32_t* tokens,
          float scale, float* out, int64_t out_stride) {
  const int group = static_cast<int>(blockIdx.y * kWarps + threadIdx.x / 32);
  if (int64_t{group} * kGroupColumns >= cols) return;
  const int lane = threadIdx.x % 32, g = lane >> 2, t = lane & 3;
  const int token = tokens[blockIdx.x];
  float w[2][8];
  DecodeGroup<L>(panels + token / kPanelRows * panel_bytes, group, lane, w);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if (g + 8 * i != token % kPanelRows) continue;
    float* to = out + blockIdx.x * out_stride + int64_t{group} * kGroupColumns + 4 * t;
#pragma unroll
    for (int j = 0; j < 8; ++j) to[j < 4 ? j : 12 + j] = scale == 1.0f ? w[i][j] : w[i][j] * scale;
  }
}

// A warp per token and group.
__global__ void __launch_bounds__(32 * kWarps)
    QuantizeTokens(const float* x, int64_t stride, int tokens, int groups, uint8_t* records) {
  LetNextStart();
  WaitForInputs();
  const int index = blockIdx.x * kWarps + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (index >= tokens * groups) return;
  const int token = index / groups, group = index % groups;
  const float value = x[token * stride + group * kGroupColumns + lane];
  WriteTokenGroup(value, {records, groups, TokenPlaces(tokens)}, group, token, lane);
}

__global__ void RandomPanels(uint32_t* words, uint64_t count, uint64_t seed, uint32_t scale) {
  const uint64_t i = static_cast<uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) words[i] = RandomPanelWord(seed, i, scale);
}

}  // namespace

void LaunchRandomPanels(uint8_t* panels, uint64_t bytes, uint64_t seed, uint32_t scale,
                        cudaStream_t stream) {
  const uint64_t words = bytes / 4;
  RandomPanels<<<static_cast<unsigned>((words + 255) / 256), 256, 0, stream>>>(
      reinterpret_cast<uint32_t*>(panels), words, seed, scale);
}

void LaunchDequantizeBf16(const DeviceWeight& weight, int64_t first_row, int64_t rows,
                          uint16_t* out, cudaStream_t stream) {
  LaunchDequantize(weight, first_row, rows, reinterpret_cast<__nv_bfloat16*>(out), stream);
}
void LaunchDequantizeF32(const DeviceWeight& weight, int64_t first_row, int64_t rows, float* out,
                         cudaStream_t stream) {
  LaunchDequantize(weight, first_row, rows, out, stream);
}

void LaunchEmbed(const DeviceWeight& table, const int32_t* tokens, float scale,
                 MatrixView<float> out, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(out.rows),
                  static_cast<unsigned>((table.cols / kGroupColumns + kWarps - 1) / kWarps));
  ForLayout(table.layout, [&]<typename L>() {
    Embed<L><<<grid, 32 * kWarps, 0, stream>>>(table.panels, table.panel_bytes, table.cols, tokens,
                                               scale, out.data, out.stride);
  });
}

void LaunchQuantizeTokens(MatrixView<const float> x, uint8_t* records, cudaStream_t stream) {
  const int groups = static_cast<int>(x.cols / kGroupColumns), tokens = static_cast<int>(x.rows);
  LaunchForTokens(tokens, QuantizeTokens,
                  dim3(static_cast<unsigned>((tokens * groups + kWarps - 1) / kWarps)), 32 * kWarps,
                  stream, x.data, x.stride, tokens, groups, records);
}

}  // namespace tq::cuda
