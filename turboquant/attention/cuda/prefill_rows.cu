// SPDX-License-Identifier: Apache-2.0
#include "turboquant/attention/cuda/prefill_rows.h"
#include "turboquant/codec/cuda/float4_ops.cuh"
#include "turboquant/codec/cuda/page_ops.cuh"

namespace tq::cuda {
namespace {

constexpr int kThreads = 256;

// 4 values in 8 bytes. Finite: rows behind those of a call are read too, and weighted with zero.
__device__ __forceinline__ uint2 ToHalves4(float4 x) {
  return {FiniteHalves(x.x, x.y), FiniteHalves(x.z, x.w)};
}
__device__ __forceinline__ float4 ToFloats4(uint2 h) {
  return {HalfLow(h.x), HalfHigh(h.x), HalfLow(h.y), HalfHigh(h.y)};
}

__global__ void RowsToHalf(const float* x, int64_t stride, int cols, uint16_t* out) {
  const int i = (blockIdx.y * kThreads + threadIdx.x) * 4;
  if (i >= cols) return;
  const int64_t row = blockIdx.x;
  *reinterpret_cast<uint2*>(out + row * cols + i) =
      ToHalves4(*reinterpret_cast<const float4*>(x + row * stride + i));
}

// A thread per 4 values; heads of a token lie side by side.
__global__ void MergeParts(const MergePartsArgs args) {
  const int i = (blockIdx.y * kThreads + threadIdx.x) * 4;
  const int cols = args.q_heads * args.head_dim;
  if (i >= cols) return;
  const int64_t token = blockIdx.x;
  const auto part = [&](int n) {
    return ToFloats4(*reinterpret_cast<const uint2*>(
        args.parts + (static_cast<int64_t>(n) * args.rows + token) * cols + i));
  };
  auto* out = reinterpret_cast<float4*>(args.out + token * args.out_stride + i);
  if (args.count == 1 && args.before == nullptr && args.after == nullptr) {
    *out = part(0);
    return;
  }
  const int head = i / args.head_dim;
  const int64_t row = token * args.q_heads + head;
  const auto denominator = [&](int n) {
    return args.denominators[(static_cast<int64_t>(n) * args.q_heads + head) * args.rows + token];
  };
  float highest = args.before == nullptr ? -INFINITY : args.before[row];
  for (int n = 0; n < args.count; ++n) highest = fmaxf(highest, denominator(n));
  float4 sum = {0.0f, 0.0f, 0.0f, 0.0f};
  float total = 0.0f;
  if (args.before != nullptr) {
    total = expf(args.before[row] - highest);
    AddScaled(sum, total, *out);
  }
  for (int n = 0; n < args.count; ++n) {
    const float weight = expf(denominator(n) - highest);
    total += weight;
    AddScaled(sum, weight, part(n));
  }
  float4 x = {0.0f, 0.0f, 0.0f, 0.0f};
  AddScaled(x, 1.0f / total, sum);
  *out = x;
  if (args.after != nullptr && i % args.head_dim == 0) args.after[row] = highest + logf(total);
}

__global__ void SetCounts(int32_t* counts, int32_t first, int32_t second) {
  counts[0] = first;
  counts[1] = second;
}

// Rows in x: y ends at 65535.
dim3 GridOf(int64_t rows, int64_t cols) {
  return {static_cast<unsigned>(rows), static_cast<unsigned>((cols / 4 + kThreads - 1) / kThreads)};
}

}  // namespace

void LaunchRowsToHalf(const float* x, int64_t stride, int64_t rows, int64_t cols, uint16_t* out,
                      cudaStream_t stream) {
  RowsToHalf<<<GridOf(rows, cols), kThreads, 0, stream>>>(x, stride, static_cast<int>(cols), out);
}

void LaunchMergeParts(const MergePartsArgs& args, cudaStream_t stream) {
  MergeParts<<<GridOf(args.tokens, int64_t{args.q_heads} * args.head_dim), kThreads, 0, stream>>>(
      args);
}

void LaunchSetCounts(int32_t* counts, int32_t first, int32_t second, cudaStream_t stream) {
  SetCounts<<<1, 1, 0, stream>>>(counts, first, second);
}

}  // namespace tq::cuda
