// SPDX-License-Identifier: Apache-2.0
// Attention of many query tokens of one sequence: its tokens decoded to f16 in the stored basis,
// range by range into a bounded workspace, and attention over each range: cuDNN's in fast prefill,
// where it is there and has a kernel for the shape and mask, else our flash kernel.
//
// exact prefill: queries see pages as decoding would, so each block of 128 positions has its own
// view; from one block to the next one page is sealed, one for each age is sealed again and one is
// new, and only these are decoded again. fast prefill: all queries see the past as the first of
// them does (its recent window at 8 bits), and the call's own keys and values as they came.
#pragma once

#include <memory>
#include <vector>

#include "turboquant/attention/attention.h"
#include "turboquant/attention/cuda/cudnn_attention.h"
#include "turboquant/base/cuda/device_memory.h"
#include "turboquant/kv/cuda/device_tables.h"

namespace tq::cuda {

enum class PrefillKernel { kBest, kOwn };

// What is done to queries before the attention and to results after it.
struct PrefillEnds {
  bool rotate_q = false;     // q comes in the model's basis; it may be rotated in place
  bool rotate_out = false;   // out of the stored basis of values
  uint16_t* bf16 = nullptr;  // results may go here too: [T, H, D], rounded to nearest
};

class PrefillAttention {
 public:
  // workspace_bytes: keys and values decoded at a time.
  explicit PrefillAttention(cudaStream_t stream, PrefillKernel kernel = PrefillKernel::kBest,
                            int64_t workspace_bytes = int64_t{256} << 20);

  // q in the basis of the pages, unless `ends` says otherwise; slot: the call's sequence in
  // `tables`. True if results are at ends.bf16 too.
  bool Run(const AttentionArgs& args, const StepTables& tables, const LayerPages& pages, int slot,
           const PrefillEnds& ends = {});

 private:
  struct Call {
    const AttentionArgs& args;
    const StepTables& tables;
    const LayerPages& pages;
    int slot;
    const PrefillEnds& ends;
  };
  // Queries [first_query, last_query) of the call over keys from position `begin` on.
  struct Queries {
    int first;
    int count;
    int64_t position;  // of the query whose view of the pages all of them take
    int64_t begin;
    int64_t end;  // keys at positions below it
  };
  void RunExact(const Call& call);
  void RunFast(const Call& call);
  // False, and nothing done: not a call for cuDNN.
  bool RunCudnn(const Call& call);
  void QueriesToHalf(const Call& call, uint16_t* out);
  // What cuDNN is to run, without memory; empty if it has no plan for some of it.
  std::vector<CudnnAttentionArgs> CudnnRanges(const Call& call, int64_t begin);
  // Decodes positions [begin, end) to workspace rows from `row` on.
  void Decode(const Call& call, int64_t position, int64_t begin, int64_t end, int64_t row);
  void TakeFresh(const Call& call, int64_t begin, int64_t end, int64_t row);
  void Flash(const Call& call, const Queries& queries, int64_t first_key, int64_t keys, bool begins,
             bool ends);
  void InRanges(const Call& call, const Queries& queries, bool fresh);
  // Positions [begin, end) to workspace rows from 0 on: the call's own as they came, if `fresh`.
  void Expand(const Call& call, int64_t position, int64_t begin, int64_t end, bool fresh);
  int64_t MostTokens(const Call& call) const;
  void ReserveKeys(const Call& call, int64_t tokens);
  void Reserve(const Call& call, int64_t tokens, int queries);
  uint16_t* KeyRow(const Call& call, int64_t row) const;
  uint16_t* ValueRow(const Call& call, int64_t row) const;

  cudaStream_t stream_;
  int64_t workspace_bytes_;
  std::unique_ptr<CudnnAttention> cudnn_;  // null: not there, or not wanted
  DeviceBytes keys_, values_, state_, halves_;
};

}  // namespace tq::cuda
