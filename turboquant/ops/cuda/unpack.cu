// SPDX-License-Identifier: Apache-2.0
// Weights out of their packed form (for products of many tokens, embeddings), and tokens into 8
// bits.
#include "turboquant/base/cuda/chained_launch.cuh"
#include "turboquant/ops/cuda/decode_group.cuh"
#include "turboquant/ops/cuda/linear_kernels.h"
#include "turboquant/ops/cuda/token_records.cuh"
#include "turboquant/ops/random_panels.h"

namespace tq::cuda {
namespace {

constexpr int kWarps = 8;

__device__ __forceinline__ void Store4(float* out, float a, float b, float c, float d) {
  *reinterpret_cast<float4*>(out) = make_float4(a, b, c, d);
}
__device__ __forceinline__ void Store4(__nv_bfloat16* out, float a, float b, float c, float d) {
  const __nv_bfloat162 low = __floats2bfloat162_rn(a, b), high = __floats2bfloat162_rn(c, d);
  uint2 words;
  words.x = *reinterpret_cast<const uint32_t*>(&low);
  words.y = *reinterpret_cast<const uint32_t*>(&high);
  *reinterpret_cast<uint2*>(out) = words;
}

// Blocks: panels x runs of kWarps groups. out: row-major from the first panel's first row.
template <typename L, typename Out>
__global__ void __launch_bounds__(32 * kWarps)
    Dequantize(const uint8_t* panels, int64_t panel_bytes, int64_t cols, int64_t rows, Out* out) {
  const int64_t group = blockIdx.y * kWarps + threadIdx.x / 32;
  if (group * kGroupColumns >= cols) return;
  const int lane = threadIdx.x % 32, g = lane >> 2, t = lane & 3;
  float w[2][8];
  DecodeGroup<L>(panels + blockIdx.x * panel_bytes, group, lane, w);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int64_t row = static_cast<int64_t>(blockIdx.x) * kPanelRows + g + 8 * i;
    if (row >= rows) continue;
    Out* to = out + row * cols + group * kGroupColumns + 4 * t;
    Store4(to, w[i][0], w[i][1], w[i][2], w[i][3]);
    Store4(to + 16, w[i][4], w[i][5], w[i][6], w[i][7]);
  }
}

template <typename Out>
void LaunchDequantize(const DeviceWeight& weight, int64_t first_row, int64_t rows, Out* out,
                      cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>((rows + kPanelRows - 1) / kPanelRows),
                  static_cast<unsigned>((weight.cols / kGroupColumns + kWarps - 1) / kWarps));
  const uint8_t* panels = weight.panels + first_row / kPanelRows * weight.panel_bytes;
  ForLayout(weight.layout, [&]<typename L>() {
    Dequantize<L, Out>
        <<<grid, 32 * kWarps, 0, stream>>>(panels, weight.panel_bytes, weight.cols, rows, out);
  });
}

// Blocks: tokens x runs of kWarps groups. A warp decodes the panel's group and keeps the one row.
template <typename L>
__global__ void __launch_bounds__(32 * kWarps)
    Embed(const uint8_t* panels, int64_t panel_bytes, int64_t cols, const int32_t* tokens,
          float scale, float* out, int64_t out_stride) {
  const int64_t group = blockIdx.y * kWarps + threadIdx.x / 32;
  if (group * kGroupColumns >= cols) return;
  const int lane = threadIdx.x % 32, g = lane >> 2, t = lane & 3;
  const int token = tokens[blockIdx.x];
  float w[2][8];
  DecodeGroup<L>(panels + token / kPanelRows * panel_bytes, group, lane, w);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if (g + 8 * i != token % kPanelRows) continue;
    float* to = out + blockIdx.x * out_stride + group * kGroupColumns + 4 * t;
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
  WriteTokenGroup(value, {records, groups}, group, token, lane);
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
  LaunchChained(QuantizeTokens,
                dim3(static_cast<unsigned>((tokens * groups + kWarps - 1) / kWarps)), 32 * kWarps,
                stream, x.data, x.stride, tokens, groups, records);
}

}  // namespace tq::cuda
