// SPDX-License-Identifier: Apache-2.0
#include "turboquant/backend/cuda/prefill_attention.h"

#include <algorithm>

#include "turboquant/attention/cuda/flash_prefill.h"
#include "turboquant/base/cuda/cuda_error.h"
#include "turboquant/base/error.h"
#include "turboquant/kv/cuda/page_kernels.h"

namespace tq::cuda {
namespace {

constexpr int64_t kWorkspaceBytes = int64_t{256} << 20;  // keys and values decoded at a time

int64_t RowValues(const LayerPages& pages) {
  return int64_t{pages.open.kv_heads} * pages.open.head_dim;
}

// First position that a query at `position` or later may see, down to the start of its page.
int64_t FirstSeen(const Visibility& visibility, int64_t position) {
  return visibility.FirstVisible(position) / kPageTokens * kPageTokens;
}

}  // namespace

void PrefillAttention::Run(const AttentionArgs& args, const StepTables& tables,
                           const LayerPages& pages, int slot) {
  const Call call{args, tables, pages, slot};
  if (args.fresh_k != nullptr) {
    RunFast(call);
  } else {
    RunExact(call);
  }
  CheckLaunch("attending to a prompt");
}

void PrefillAttention::RunFast(const Call& call) {
  const AttentionArgs& args = call.args;
  const int64_t begin = FirstSeen(call.pages.visibility, args.first_position);
  InRanges(call, {0, args.tokens, args.first_position, begin, args.first_position + args.tokens},
           true);
}

void PrefillAttention::RunExact(const Call& call) {
  const AttentionArgs& args = call.args;
  const Visibility& visibility = call.pages.visibility;
  const int64_t last = args.first_position + args.tokens;
  const int64_t begin = FirstSeen(visibility, args.first_position);
  const bool fits = last - begin <= MostTokens(call);
  for (int64_t position = args.first_position; position < last;) {
    const int64_t end = std::min(last, (position / kPageTokens + 1) * kPageTokens);
    const auto first = static_cast<int>(position - args.first_position);
    const Queries queries{first, static_cast<int>(end - position), position,
                          FirstSeen(visibility, position), end};
    if (!fits) {
      InRanges(call, queries, false);
    } else {
      if (position == args.first_position) {
        Reserve(call, last - begin, args.tokens);
        Decode(call, position, begin, end, 0);
      } else {  // the page that this block reads sealed for the first time, and the block's own
        const int64_t sealed = position / kPageTokens - 1 - visibility.window_pages;
        if (visibility.seals && sealed * kPageTokens >= begin && sealed >= visibility.sink_pages)
          Decode(call, position, sealed * kPageTokens, (sealed + 1) * kPageTokens,
                 sealed * kPageTokens - begin);
        Decode(call, position, position, end, position - begin);
      }
      Flash(call, queries, begin, end - begin, true, true);
    }
    position = end;
  }
}

// The workspace may hold less than all the keys: ranges one after another, the softmax state
// carried from one to the next.
void PrefillAttention::InRanges(const Call& call, const Queries& queries, bool fresh) {
  const int64_t most = MostTokens(call);
  Reserve(call, std::min(most, queries.end - queries.begin), call.args.tokens);
  const int64_t past = fresh ? call.args.first_position : queries.end;
  for (int64_t begin = queries.begin; begin < queries.end; begin += most) {
    const int64_t end = std::min(begin + most, queries.end);
    if (begin < past) Decode(call, queries.position, begin, std::min(end, past), 0);
    if (end > past) TakeFresh(call, std::max(begin, past), end, std::max(begin, past) - begin);
    Flash(call, queries, begin, end - begin, begin == queries.begin, end == queries.end);
  }
}

void PrefillAttention::Flash(const Call& call, const Queries& queries, int64_t first_key,
                             int64_t keys, bool begins, bool ends) {
  const AttentionArgs& args = call.args;
  FlashPrefillArgs flash;
  flash.q = args.q + queries.first * args.q_stride;
  flash.q_stride = args.q_stride;
  flash.out = args.out + queries.first * args.out_stride;
  flash.out_stride = args.out_stride;
  flash.tokens = queries.count;
  flash.first_position = args.first_position + queries.first;
  flash.q_heads = args.q_heads;
  flash.kv_heads = call.pages.open.kv_heads;
  flash.head_dim = call.pages.open.head_dim;
  flash.scale = args.scale;
  flash.sliding_window = call.pages.visibility.sliding_window;
  flash.k = keys_.as<uint16_t>();
  flash.v = values_.as<uint16_t>();
  flash.first_key = first_key;
  flash.keys = static_cast<int>(keys);
  flash.state = state_.as<float>();
  flash.begins = begins;
  flash.ends = ends;
  TQ_CHECK(LaunchFlashPrefill(flash, stream_));  // CheckCache has refused other head dims
}

void PrefillAttention::Decode(const Call& call, int64_t position, int64_t begin, int64_t end,
                              int64_t row) {
  DequantizeArgs args;
  args.tables = call.tables;
  args.pages = call.pages;
  args.slot = call.slot;
  args.position = position;
  args.first = begin;
  args.count = static_cast<int>(end - begin);
  args.k = KeyRow(call, row);
  args.v = ValueRow(call, row);
  LaunchDequantize(args, stream_);
}

void PrefillAttention::TakeFresh(const Call& call, int64_t begin, int64_t end, int64_t row) {
  const AttentionArgs& args = call.args;
  const int64_t from = (begin - args.first_position) * args.fresh_stride;
  LaunchRowsToHalf(args.fresh_k + from, args.fresh_stride, end - begin, RowValues(call.pages),
                   KeyRow(call, row), stream_);
  LaunchRowsToHalf(args.fresh_v + from, args.fresh_stride, end - begin, RowValues(call.pages),
                   ValueRow(call, row), stream_);
}

int64_t PrefillAttention::MostTokens(const Call& call) const {
  const int64_t token_bytes = 2 * RowValues(call.pages) * static_cast<int64_t>(sizeof(uint16_t));
  return std::max<int64_t>(kWorkspaceBytes / token_bytes / kPageTokens, 1) * kPageTokens;
}

// Grows in large steps: a prompt's chunks reach further and further.
void PrefillAttention::Reserve(const Call& call, int64_t tokens, int queries) {
  const int64_t rounded = std::min((tokens + 4095) / 4096 * 4096, MostTokens(call));
  const auto bytes = static_cast<size_t>(std::max(rounded, tokens) * RowValues(call.pages)) * 2;
  keys_.EnsureSize(bytes, "decoded keys of a prompt");
  values_.EnsureSize(bytes, "decoded values of a prompt");
  state_.EnsureSize(
      static_cast<size_t>(FlashPrefillStateFloats(queries, call.args.q_heads)) * sizeof(float),
      "the softmax state of a prompt");
}

uint16_t* PrefillAttention::KeyRow(const Call& call, int64_t row) const {
  return keys_.as<uint16_t>() + row * RowValues(call.pages);
}
uint16_t* PrefillAttention::ValueRow(const Call& call, int64_t row) const {
  return values_.as<uint16_t>() + row * RowValues(call.pages);
}

}  // namespace tq::cuda
