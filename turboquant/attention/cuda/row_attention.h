// SPDX-License-Identifier: Apache-2.0
// Attention of few query tokens per sequence over pages of rows (comparison types): f16 and q8_0 on
// both sides. Like the kernel of packed tiles it reads everything that changes from StepTables: fit
// for CUDA graphs.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "turboquant/kv/cuda/device_tables.h"

namespace tq::cuda {

// Are both sides in rows? Then this kernel serves the page, the one of tiles otherwise.
constexpr bool IsRowPage(const PageLayout& layout) {
  return layout.k_row_bytes != 0 && layout.v_row_bytes != 0;
}
// Throws kUnsupported, listing what there is, if there is no kernel for a layout in rows.
void CheckRowAttention(const PageLayout& layout);

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
// Up to 65536 times 16 rows of query tokens and heads. The owner zeroes the workspace once;
// launches leave its counters zero.
int64_t RowAttentionWorkspaceBytes(const RowAttentionArgs& args);
void LaunchRowAttention(const RowAttentionArgs& args, void* workspace, cudaStream_t stream);

}  // namespace tq::cuda
