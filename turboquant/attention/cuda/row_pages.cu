// SPDX-License-Identifier: Apache-2.0
// Rows of pages written and read; the bytes are those of codec/cpu/rows_scalar.cc.
#include <cuda_fp16.h>

#include "turboquant/attention/cuda/row_pages.h"

namespace tq::cuda {
namespace {

constexpr int kThreads = 256;

__device__ __forceinline__ float Clamped(float x, float limit) {
  return x > limit ? limit : x < -limit ? -limit : x;
}
__device__ __forceinline__ float Sanitized(float x) {  // NaN becomes 0, infinities finite
  return x == x ? Clamped(x, 0x1.fffffep127f) : 0.0f;
}

__device__ __forceinline__ std::byte* HeadRow(const StepTables& tables, const LayerPages& pages,
                                              int slot, int64_t position, int head, bool value) {
  const PageLayout& open = pages.open;
  const uint32_t id =
      tables.open_pages[int64_t{slot} * tables.page_stride + position / kPageTokens];
  const uint32_t row = static_cast<uint32_t>(position % kPageTokens);
  return pages.arena + static_cast<uint64_t>(id) * kPageIdUnit + pages.open_layer_offset +
         static_cast<uint64_t>(head) * open.head_bytes +
         (value ? open.v_rows_offset + row * open.v_row_bytes
                : open.k_rows_offset + row * open.k_row_bytes);
}

// Blocks: tokens x slots x sides; a warp takes 32 values of one head at a time.
__global__ void __launch_bounds__(kThreads) EncodeRows(const EncodeRowsArgs args) {
  const int token = blockIdx.x, slot = blockIdx.y;
  const bool value = blockIdx.z == 1;
  if (token >= args.tables.tokens[slot]) return;
  const PageLayout& open = args.pages.open;
  const float* row = (value ? args.v : args.k) +
                     (int64_t{args.tables.first_rows[slot]} + token) * args.stride;
  const int64_t position = int64_t{args.tables.first_positions[slot]} + token;
  const int lane = threadIdx.x % 32;
  const bool half = (value ? open.v : open.k) == Codec::kF16;
  for (int i = threadIdx.x; i < open.kv_heads * open.head_dim; i += kThreads) {
    const int head = i / open.head_dim, dim = i % open.head_dim;
    std::byte* to = HeadRow(args.tables, args.pages, slot, position, head, value);
    const float x = Sanitized(row[i]);
    if (half) {
      reinterpret_cast<__half*>(to)[dim] = __float2half_rn(Clamped(x, 65504.0f));
      continue;
    }
    // q8_0: head dims are multiples of 32 here, so that a warp has a block.
    float largest = fabsf(x);
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2)
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, mask));
    const __half stored = __float2half_rn(Clamped(__fdiv_rn(largest, 127.0f), 65504.0f));
    const float scale = __half2float(stored);
    const float code = scale == 0.0f ? 0.0f : rintf(Clamped(__fdiv_rn(x, scale), 127.0f));
    std::byte* block = to + dim / 32 * 34;
    if (lane == 0) *reinterpret_cast<__half*>(block) = stored;
    block[2 + lane] = static_cast<std::byte>(static_cast<int>(code));
  }
}

// Blocks: tokens x sides.
__global__ void __launch_bounds__(kThreads)
    DecodeRows(const StepTables tables, const LayerPages pages, int slot, int64_t first,
               uint16_t* k, uint16_t* v) {
  const bool value = blockIdx.y == 1;
  const PageLayout& open = pages.open;
  const int values = open.kv_heads * open.head_dim;
  auto* out = reinterpret_cast<__half*>(value ? v : k) + int64_t{blockIdx.x} * values;
  for (int i = threadIdx.x; i < values; i += kThreads) {
    const int dim = i % open.head_dim;
    const std::byte* row =
        HeadRow(tables, pages, slot, first + blockIdx.x, i / open.head_dim, value);
    if ((value ? open.v : open.k) == Codec::kF16) {
      out[i] = reinterpret_cast<const __half*>(row)[dim];
    } else {
      const std::byte* block = row + dim / 32 * 34;
      const float scale = __half2float(*reinterpret_cast<const __half*>(block));
      out[i] = __float2half_rn(
          static_cast<float>(static_cast<int8_t>(block[2 + dim % 32])) * scale);
    }
  }
}

}  // namespace

void LaunchEncodeRows(const EncodeRowsArgs& args, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(args.max_tokens), static_cast<unsigned>(args.tables.slots),
                  2);
  EncodeRows<<<grid, kThreads, 0, stream>>>(args);
}

void LaunchDecodeRows(const StepTables& tables, const LayerPages& pages, int slot, int64_t first,
                      int count, uint16_t* k, uint16_t* v, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(count), 2);
  DecodeRows<<<grid, kThreads, 0, stream>>>(tables, pages, slot, first, k, v);
}

}  // namespace tq::cuda
