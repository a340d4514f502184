// SPDX-License-Identifier: Apache-2.0
#include <cuda_fp16.h>

#include "turboquant/attention/cuda/prefill_rows.h"

namespace tq::cuda {
namespace {

constexpr int kThreads = 256;

// 4 values in 8 bytes.
__device__ __forceinline__ uint2 ToHalves(float4 x) {
  const __half2 low = __floats2half2_rn(x.x, x.y), high = __floats2half2_rn(x.z, x.w);
  return {*reinterpret_cast<const uint32_t*>(&low), *reinterpret_cast<const uint32_t*>(&high)};
}
__device__ __forceinline__ float4 ToFloats(uint2 h) {
  const float2 low = __half22float2(*reinterpret_cast<const __half2*>(&h.x));
  const float2 high = __half22float2(*reinterpret_cast<const __half2*>(&h.y));
  return {low.x, low.y, high.x, high.y};
}

__global__ void RowsToHalf(const float* x, int64_t stride, int cols, uint16_t* out) {
  const int i = (blockIdx.x * kThreads + threadIdx.x) * 4;
  if (i >= cols) return;
  const int64_t row = blockIdx.y;
  *reinterpret_cast<uint2*>(out + row * cols + i) =
      ToHalves(*reinterpret_cast<const float4*>(x + row * stride + i));
}

// A thread per 4 values; heads of a token lie side by side.
__global__ void MergePart(const MergePartArgs args) {
  const int i = (blockIdx.x * kThreads + threadIdx.x) * 4;
  const int cols = args.q_heads * args.head_dim;
  if (i >= cols) return;
  const int64_t token = blockIdx.y;
  float4 x = ToFloats(*reinterpret_cast<const uint2*>(args.part + token * cols + i));
  auto* out = reinterpret_cast<float4*>(args.out + token * args.out_stride + i);
  const int head = i / args.head_dim;
  const int64_t row = token * args.q_heads + head;
  if (args.before != nullptr || args.after != nullptr) {
    const float part = args.part_denominators[static_cast<int64_t>(head) * args.rows + token];
    float total = part;
    if (args.before != nullptr) {
      const float before = args.before[row], highest = fmaxf(before, part);
      const float a = expf(before - highest), b = expf(part - highest);
      total = highest + logf(a + b);
      const float keep = a / (a + b), take = b / (a + b);
      const float4 y = *out;
      x.x = x.x * take + y.x * keep;
      x.y = x.y * take + y.y * keep;
      x.z = x.z * take + y.z * keep;
      x.w = x.w * take + y.w * keep;
    }
    if (args.after != nullptr && i % args.head_dim == 0) args.after[row] = total;
  }
  *out = x;
}

__global__ void SetCounts(int32_t* counts, int32_t first, int32_t second) {
  counts[0] = first;
  counts[1] = second;
}

dim3 GridOf(int64_t rows, int64_t cols) {
  return {static_cast<unsigned>((cols / 4 + kThreads - 1) / kThreads), static_cast<unsigned>(rows)};
}

}  // namespace

void LaunchRowsToHalf(const float* x, int64_t stride, int64_t rows, int64_t cols, uint16_t* out,
                      cudaStream_t stream) {
  RowsToHalf<<<GridOf(rows, cols), kThreads, 0, stream>>>(x, stride, static_cast<int>(cols), out);
}

void LaunchMergePart(const MergePartArgs& args, cudaStream_t stream) {
  MergePart<<<GridOf(args.tokens, int64_t{args.q_heads} * args.head_dim), kThreads, 0, stream>>>(
      args);
}

void LaunchSetCounts(int32_t* counts, int32_t first, int32_t second, cudaStream_t stream) {
  SetCounts<<<1, 1, 0, stream>>>(counts, first, second);
}

}  // namespace tq::cuda
