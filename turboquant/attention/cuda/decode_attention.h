// SPDX-License-Identifier: Apache-2.0
// Attention of few query tokens per sequence (decode, speculative checking) over packed pages: one
// launch for all sequences of a layer and pages of all kinds, and one that merges heads which it
// split. No allocation, no host reads: fit for CUDA graphs. The oracle is AttendReference
// (attention/attention.h).
#pragma once

#include <cstdint>

#include "turboquant/codec/cuda/stream.h"
#include "turboquant/kv/cuda/device_tables.h"

namespace tq::cuda {

// Sizes that a workspace is made for; a call may be smaller in every respect.
struct DecodeLimits {
  int head_dim = 0;
  int kv_heads = 0;
  int q_heads = 0;
  int tokens = 1;  // query tokens per sequence at most
};

struct DecodeArgs {
  StepTables tables;
  LayerPages pages;
  const float* q = nullptr;  // [rows][H][D]
  float* out = nullptr;      // [rows][H][D]
  int64_t q_stride = 0;      // floats between rows
  int64_t out_stride = 0;
  int q_heads = 0;
  int tokens = 1;   // query tokens per sequence at most: which kernel runs. tables.tokens <= this
  float scale = 0;  // applied to q . k before softmax
  // q and out are in the model's basis and the kernel rotates them (K, V in tiles only); else they
  // are in the basis of the pages, which a calibrated map needs (LaunchMapRows before).
  bool rotate_q = true;
  bool rotate_out = true;
  // Programmatic dependent launch: tables and sealed pages are read while kernels before still run,
  // back to the last one that was not launched so; only q and open pages may come from those.
  // Whatever comes after in the stream is ordered as ever. (The merging launch is always so.)
  bool overlap = false;
  bool generic = false;  // tests and benchmarks: run the instance for any pair of codecs
  bool narrow = false;   // tests: no wide kernels, as on devices other than Hopper
  int blocks = 0;        // tests: of the grid, so that few have long runs; 0: one a multiprocessor
};

// The most query tokens per sequence that one call takes: 32 (fewer for groups above 16 heads).
int MaxDecodeTokens(int q_heads, int kv_heads);

// Throws kUnsupported if there is no kernel for a page of this layout, listing what there is.
void CheckDecode(const PageLayout& layout, int q_heads);

// Bytes of workspace on the current device. One launch at a time may use a workspace.
int64_t DecodeWorkspaceBytes(const DecodeLimits& limits);

// `workspace_bytes` >= DecodeWorkspaceBytes of limits that cover the call. Throws kUnsupported if
// the device refuses the launch.
void LaunchDecodeAttention(const DecodeArgs& args, void* workspace, int64_t workspace_bytes,
                           Stream stream);

}  // namespace tq::cuda
