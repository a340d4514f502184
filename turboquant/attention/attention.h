// SPDX-License-Identifier: Apache-2.0
// Attention of T query tokens over one sequence's pages at one layer, in the stored basis.
#pragma once

#include <cstdint>
#include <span>

#include "turboquant/base/cpu_isa.h"
#include "turboquant/base/thread_pool.h"
#include "turboquant/kv/kv_view.h"

namespace tq {

struct AttentionArgs {
  KvLayerView kv;  // view.length covers the last query's own token
  const float* q =
      nullptr;  // [T, H, D], already in the basis of the pages (stored for K tiles, raw for K rows)
  float* out = nullptr;  // [T, H, D], in the basis of V's pages; on the host it may be q
  int64_t q_stride = 0;  // floats from one token to the next (>= H * D)
  int64_t out_stride = 0;
  int tokens = 0;  // T; query t stands at position first_position + t and sees positions <= its own
  int64_t first_position = 0;
  int q_heads = 0;  // H, a multiple of kv heads; query head h reads KV head h / (H / G)
  float scale = 0;  // applied to q . k before softmax
  // Fast prefill: if set, tokens at positions >= first_position are read from here instead of the
  // pages.
  const float* fresh_k =
      nullptr;  // [T, G, D] in K's basis (before quantisation), rows fresh_stride apart
  const float* fresh_v = nullptr;
  int64_t fresh_stride = 0;
};

// Straight loops in double over decoded pages: the definition. Any T.
void AttendReference(const AttentionArgs& args);

// The product. Carries out all calls of a step together (sequences of a batch at one layer); splits
// long sequences over the pool's threads and merges by online softmax. Error against
// AttendReference <= 3e-4 of the output's norm. Few queries per KV head (T * H / G small): integer
// dot products on packed codes. Many: pages expanded block by block into a bounded workspace.
// `workspace` grows as needed and is kept by the caller between calls.
class AttentionWorkspace;  // attention/plan.h
void Attend(std::span<const AttentionArgs> calls, AttentionWorkspace& workspace,
            const ThreadPool& pool, Isa isa = ActiveIsa());

}  // namespace tq
