// SPDX-License-Identifier: Apache-2.0
#include "turboquant/attention/cuda/prefill_quads.cuh"
#include "turboquant/attention/cuda/prefill_rows.h"
#include "turboquant/attention/cuda/rotated_rows.h"
#include "turboquant/base/cuda/chained_launch.cuh"

namespace tq::cuda {
namespace {

constexpr int kThreads = 256;

// Blocks z: the first matrix and the second.
__global__ void RowsToHalf(const RowsToHalfArgs args) {
  LetNextStart();
  WaitForInputs();
  const int i = (blockIdx.y * kThreads + threadIdx.x) * 4;
  if (i >= args.cols) return;
  const int64_t row = blockIdx.x;
  const float* x = blockIdx.z == 0 ? args.x : args.second_x;
  uint16_t* out = blockIdx.z == 0 ? args.out : args.second_out;
  *reinterpret_cast<uint2*>(out + row * args.cols + i) =
      ToHalves4(*reinterpret_cast<const float4*>(x + row * args.stride + i));
}

// A thread per 4 values; heads of a token lie side by side.
__global__ void MergeParts(const MergePartsArgs args) {
  LetNextStart();
  WaitForInputs();
  const int i = (blockIdx.y * kThreads + threadIdx.x) * 4;
  if (i >= args.q_heads * args.head_dim) return;
  StoreResult(args, blockIdx.x, i, MergedQuad(args, blockIdx.x, i));
}

__global__ void SetCounts(int32_t* counts, int32_t first, int32_t second) {
  LetNextStart();
  WaitForInputs();
  counts[0] = first;
  counts[1] = second;
}

// Rows in x: y ends at 65535.
dim3 GridOf(int64_t rows, int64_t cols, unsigned matrices) {
  return {static_cast<unsigned>(rows), static_cast<unsigned>((cols / 4 + kThreads - 1) / kThreads),
          matrices};
}

}  // namespace

void LaunchRowsToHalf(const RowsToHalfArgs& args, cudaStream_t stream) {
  const unsigned matrices = args.second_x == nullptr ? 1 : 2;
  LaunchChained(RowsToHalf, GridOf(args.rows, args.cols, matrices), kThreads, stream, args);
}

void LaunchMergeParts(const MergePartsArgs& args, cudaStream_t stream) {
  if (args.rotate_back) return LaunchMergePartsBack(args, stream);
  LaunchChained(MergeParts, GridOf(args.tokens, int64_t{args.q_heads} * args.head_dim, 1), kThreads,
                stream, args);
}

void LaunchSetCounts(int32_t* counts, int32_t first, int32_t second, cudaStream_t stream) {
  LaunchChained(SetCounts, dim3(1), 1, stream, counts, first, second);
}

}  // namespace tq::cuda
