// SPDX-License-Identifier: Apache-2.0
// Attention of many query tokens of one sequence over a range of keys and values decoded to f16, on
// the tensor cores. Ranges follow each other: the softmax state is carried from launch to launch,
// so the workspace of decoded tokens is bounded.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace tq::cuda {

struct FlashPrefillArgs {
  const float* q = nullptr;  // [tokens][H][D] in the basis of the keys
  int64_t q_stride = 0;
  float* out = nullptr;  // [tokens][H][D] in the basis of the values; holds sums between ranges
  int64_t out_stride = 0;
  int tokens = 0;
  int64_t first_position = 0;  // of query 0
  int q_heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  float scale = 0;
  int sliding_window = 0;       // 0 = all
  const uint16_t* k = nullptr;  // f16 [keys][G][D]
  const uint16_t* v = nullptr;
  int64_t first_key = 0;  // position of key 0 of this range
  int keys = 0;
  float* state = nullptr;  // [2][tokens * H][2]: maximum and denominator
  bool begins = true;      // the first range
  bool ends = true;        // the last one: out becomes the result
};

constexpr int64_t FlashPrefillStateFloats(int64_t tokens, int q_heads) {
  return 4 * tokens * q_heads;
}

// Head dims: those of packed tiles (kHeadDims). False if there is no kernel for the head dim.
bool LaunchFlashPrefill(const FlashPrefillArgs& args, cudaStream_t stream);

}  // namespace tq::cuda
