// SPDX-License-Identifier: Apache-2.0
// How the calls of one step are divided into work, by host arithmetic alone, and the memory that
// the work needs.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "turboquant/attention/attention.h"
#include "turboquant/base/aligned_buffer.h"

namespace tq {

// A call of at most kMaxColumns query columns per KV head attends on packed codes.
bool IsDecode(const AttentionArgs& args);

// Pages [first_page, last_page) of one KV head of one call; the page after the last one in the
// cache stands for the fresh tokens. Its softmax state goes to partial columns [partial, ...).
struct DecodeSegment {
  int call;
  int kv_head;
  int first_page;
  int last_page;
  int64_t partial;
};

// Segments in order of call, KV head and page. Piece i is the segments [piece_begin[i],
// piece_begin[i + 1]): pieces cost about the same, whatever calls they come from.
struct DecodePlan {
  std::vector<DecodeSegment> segments;
  std::vector<int> piece_begin;
  int64_t partial_columns = 0;
  int pieces() const { return static_cast<int>(piece_begin.size()) - 1; }
};
void PlanDecode(std::span<const AttentionArgs> calls, int threads, DecodePlan& plan);

// Queries [first_token, last_token), all within one 128-token block of positions (so they see every
// page in the same form), of query heads [first_head, last_head) of one KV head.
struct PrefillItem {
  int call;
  int kv_head;
  int first_token;
  int last_token;
  int first_head;  // within the KV head's group
  int last_head;
  int rows() const { return (last_token - first_token) * (last_head - first_head); }
};
inline constexpr int kMaxPrefillRows = 512;
// Longest items first.
void PlanPrefill(std::span<const AttentionArgs> calls, int threads,
                 std::vector<PrefillItem>& items);

// Grow-only memory of Attend, reused from call to call. One user at a time.
class AttentionWorkspace {
 public:
  DecodePlan decode;
  std::vector<PrefillItem> prefill;
  AlignedBuffer<float> partials;     // m, l and o of the plan's partial columns
  AlignedBuffer<std::byte> workers;  // one slice per thread

  int64_t bytes() const {
    return static_cast<int64_t>(partials.size() * sizeof(float) + workers.size());
  }
};

}  // namespace tq
