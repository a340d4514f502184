// SPDX-License-Identifier: Apache-2.0
// Pages of rows in the model's basis (comparison types) on the device: f16 and q8_0 on both sides.
// Tokens in, tokens out as f16, and attention of few query tokens per sequence. Like the kernels of
// packed tiles they read everything that changes from StepTables: fit for CUDA graphs.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "turboquant/kv/cuda/device_tables.h"

namespace tq::cuda {

// Are both sides in rows? Then these kernels serve the page, the tiles' kernels otherwise.
constexpr bool IsRowPage(const PageLayout& layout) {
  return layout.k_row_bytes != 0 && layout.v_row_bytes != 0;
}
// Throws kUnsupported, listing what there is, if there is no kernel for a layout in rows.
void CheckRowPages(const PageLayout& layout);

struct EncodeRowsArgs {
  StepTables tables;
  LayerPages pages;
  const float* k = nullptr;  // [rows][G][D]
  const float* v = nullptr;
  int64_t stride = 0;  // floats between rows
  int max_tokens = 1;  // tables.tokens <= this
};
void LaunchEncodeRows(const EncodeRowsArgs& args, cudaStream_t stream);

// Tokens [first, first + count) of a slot: k, v [count][G][D] f16, contiguous.
void LaunchDecodeRows(const StepTables& tables, const LayerPages& pages, int slot, int64_t first,
                      int count, uint16_t* k, uint16_t* v, cudaStream_t stream);

struct RowAttentionArgs {
  StepTables tables;
  LayerPages pages;
  const float* q = nullptr;  // [rows][H][D]
  float* out = nullptr;      // [rows][H][D]
  int64_t q_stride = 0;
  int64_t out_stride = 0;
  int q_heads = 0;
  int tokens = 1;  // per sequence at most; tables.tokens <= this
  float scale = 0;
};
// Up to 65536 times 16 rows of query tokens and heads. The owner zeroes the workspace once; launches
// leave its counters zero.
int64_t RowAttentionWorkspaceBytes(const RowAttentionArgs& args);
void LaunchRowAttention(const RowAttentionArgs& args, void* workspace, cudaStream_t stream);

}  // namespace tq::cuda
