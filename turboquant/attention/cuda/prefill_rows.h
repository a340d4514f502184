// SPDX-License-Identifier: Apache-2.0
// What stands round an attention over f16 ranges: rows of floats to f16, and the results of ranges
// put together by their softmax denominators; on the way queries and results change their basis.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace tq::cuda {

// Rows of floats, `stride` apart, to contiguous f16. Multiples of 4 columns, rows aligned to them.
struct RowsToHalfArgs {
  const float* x = nullptr;
  uint16_t* out = nullptr;
  const float* second_x = nullptr;  // of the same shape, or null
  uint16_t* second_out = nullptr;
  int64_t stride = 0;
  int64_t rows = 0;
  int64_t cols = 0;
};
void LaunchRowsToHalf(const RowsToHalfArgs& args, cudaStream_t stream);

// Queries [rows][H][D], rotated into the stored basis of keys first: the bits of LaunchToStored and
// LaunchRowsToHalf, without writing floats. head_dim: one of kHeadDims.
struct QueriesToHalfArgs {
  const float* q = nullptr;
  uint16_t* out = nullptr;
  int64_t stride = 0;
  int64_t rows = 0;
  int q_heads = 0;
  int head_dim = 0;
};
void LaunchQueriesToHalf(const QueriesToHalfArgs& args, cudaStream_t stream);

// Results of attention to ranges of keys into that of all of them. Denominators are logarithms.
struct MergePartsArgs {
  const uint16_t* parts =
      nullptr;  // f16 [count][rows][H][D], of which `tokens` rows mean something
  const float* denominators =
      nullptr;  // [count][H][rows]; not read if there is but one part in all
  int count = 1;
  int rows = 0;
  float* out = nullptr;  // [tokens][H][D]
  int64_t out_stride = 0;
  const float* before = nullptr;  // [tokens][H] of what out holds; null: nothing yet
  float* after = nullptr;         // of what it holds then, elsewhere; null: no more parts come
  int tokens = 0;
  int q_heads = 0;
  int head_dim = 0;
  // With the last parts:
  bool rotate_back =
      false;  // out of the stored basis of values: the bits of LaunchToModel after it
  uint16_t* bf16 = nullptr;  // [tokens][H][D] of what out holds then, rounded to nearest; or null
};
void LaunchMergeParts(const MergePartsArgs& args, cudaStream_t stream);

void LaunchSetCounts(int32_t* counts, int32_t first, int32_t second, cudaStream_t stream);

}  // namespace tq::cuda
