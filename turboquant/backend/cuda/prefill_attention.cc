// SPDX-License-Identifier: Apache-2.0
#include "turboquant/backend/cuda/prefill_attention.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "turboquant/attention/cuda/flash_prefill.h"
#include "turboquant/attention/cuda/prefill_rows.h"
#include "turboquant/base/cuda/cuda_error.h"
#include "turboquant/base/error.h"
#include "turboquant/codec/cuda/transform_kernels.h"
#include "turboquant/kv/cuda/page_kernels.h"

namespace tq::cuda {
namespace {

// Making a plan of cuDNN's takes longer than a layer's attention, and one of other rows than the
// call's makes it a tenth slower. So the past is cut into powers of two, from this many on:
constexpr int64_t kLeastRange = 8192;
// and what is left, with the call's own keys, has a plan of its own where it comes again in every
// prompt, chunk by chunk of so many queries, else one of a power of two.
constexpr int64_t kLeastChunk = 2048;
constexpr int64_t kLeastPlanQueries = 128, kLeastPlanKeys = 4096;
constexpr int64_t kPartBytes = int64_t{256} << 20;  // results of ranges that are merged at once
constexpr int64_t kMostParts = 8;

int64_t RowValues(const LayerPages& pages) {
  return int64_t{pages.open.kv_heads} * pages.open.head_dim;
}

// First position that a query at `position` or later may see, down to the start of its page.
int64_t FirstSeen(const Visibility& visibility, int64_t position) {
  return visibility.FirstVisible(position) / kPageTokens * kPageTokens;
}

int64_t PlanRows(int64_t rows, int64_t least) {
  return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(std::max(rows, least))));
}

int64_t PowerOfTwoIn(int64_t n) {
  return static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(n)));
}

}  // namespace

PrefillAttention::PrefillAttention(cudaStream_t stream, PrefillKernel kernel,
                                   int64_t workspace_bytes)
    : stream_(stream), workspace_bytes_(workspace_bytes) {
  if (kernel == PrefillKernel::kBest && FindCudnn().why_not.empty())
    cudnn_ = std::make_unique<CudnnAttention>(stream);
}

bool PrefillAttention::Run(const AttentionArgs& args, const StepTables& tables,
                           const LayerPages& pages, int slot, const PrefillEnds& ends) {
  const Call call{args, tables, pages, slot, ends};
  const bool fast = args.fresh_k != nullptr;
  const bool by_cudnn = fast && RunCudnn(call);
  if (!by_cudnn) {
    TransformArgs transform = {.x = const_cast<float*>(args.q),
                               .rows = args.tokens,
                               .stride = args.q_stride,
                               .heads = args.q_heads,
                               .head_dim = pages.open.head_dim,
                               .side = Side::kKey};
    if (ends.rotate_q) LaunchToStored(transform, stream_);
    fast ? RunFast(call) : RunExact(call);
    transform.x = args.out;
    transform.stride = args.out_stride;
    transform.side = Side::kValue;
    if (ends.rotate_out) LaunchToModel(transform, stream_);
  }
  CheckLaunch("attending to a prompt");
  return by_cudnn && ends.bf16 != nullptr;
}

void PrefillAttention::RunFast(const Call& call) {
  const AttentionArgs& args = call.args;
  const int64_t begin = FirstSeen(call.pages.visibility, args.first_position);
  InRanges(call, {0, args.tokens, args.first_position, begin, args.first_position + args.tokens},
           true);
}

// Ranges of the past, which every query sees whole, then one that ends with the call's own keys.
std::vector<CudnnAttentionArgs> PrefillAttention::CudnnRanges(const Call& call, int64_t begin) {
  const AttentionArgs& args = call.args;
  const PageLayout& layout = call.pages.open;
  const int64_t past = args.first_position, most = MostTokens(call);
  // A window that moves along within the call?
  if (call.pages.visibility.FirstVisible(past + args.tokens - 1) > begin) return {};
  if (args.tokens + kPageTokens > most) return {};
  CudnnAttentionArgs range;
  range.tokens = args.tokens;
  range.q_rows = static_cast<int>(PlanRows(args.tokens, kLeastPlanQueries));
  range.q_heads = args.q_heads;
  range.kv_heads = layout.kv_heads;
  range.head_dim = layout.head_dim;
  range.scale = args.scale;
  std::vector<CudnnAttentionArgs> ranges;
  int64_t left = past - begin;
  while (left >= kLeastRange || left + args.tokens > most) {
    range.keys = range.k_rows = static_cast<int>(PowerOfTwoIn(std::min(left, most)));
    ranges.push_back(range);
    left -= range.keys;
  }
  const bool comes_again =
      range.q_rows == args.tokens && args.tokens >= kLeastChunk && left % args.tokens == 0;
  range.keys = static_cast<int>(left + args.tokens);
  range.k_rows = comes_again
                     ? range.keys
                     : static_cast<int>(std::min(PlanRows(range.keys, kLeastPlanKeys), most));
  range.causal = true;
  ranges.push_back(range);
  const auto has_plan = [&](const CudnnAttentionArgs& each) { return cudnn_->Prepare(each); };
  if (!std::ranges::all_of(ranges, has_plan)) return {};
  return ranges;
}

bool PrefillAttention::RunCudnn(const Call& call) {
  if (cudnn_ == nullptr) return false;
  const AttentionArgs& args = call.args;
  const PageLayout& layout = call.pages.open;
  int64_t begin = FirstSeen(call.pages.visibility, args.first_position);
  std::vector<CudnnAttentionArgs> ranges = CudnnRanges(call, begin);
  if (ranges.empty()) return false;
  const int64_t rows = ranges.front().q_rows, cols = int64_t{args.q_heads} * layout.head_dim;
  const auto count = static_cast<int64_t>(ranges.size());
  const int64_t at_once =
      std::clamp<int64_t>(kPartBytes / (rows * cols * 2), 1, std::min(count, kMostParts));
  int k_rows = 0;
  for (const CudnnAttentionArgs& range : ranges) k_rows = std::max(k_rows, range.k_rows);
  ReserveKeys(call, k_rows);
  halves_.EnsureSize(static_cast<size_t>((1 + at_once) * rows * cols) * sizeof(uint16_t),
                     "queries and results of a prompt");
  const int64_t denominators = rows * args.q_heads;
  state_.EnsureSize(static_cast<size_t>((at_once + 2) * denominators) * sizeof(float),
                    "the softmax state of a prompt");
  auto* q = halves_.as<uint16_t>();
  QueriesToHalf(call, q);
  MergePartsArgs merge;
  merge.parts = q + rows * cols;
  merge.denominators = state_.as<float>();
  merge.rows = static_cast<int>(rows);
  merge.out = args.out;
  merge.out_stride = args.out_stride;
  merge.tokens = args.tokens;
  merge.q_heads = args.q_heads;
  merge.head_dim = layout.head_dim;
  // Of what has been merged, from one to the other of two places.
  float* sums = state_.as<float>() + at_once * denominators;
  float* next_sums = sums + denominators;
  for (int64_t i = 0; i < count; ++i) {
    CudnnAttentionArgs& range = ranges[static_cast<size_t>(i)];
    const int64_t part = i % at_once;
    Expand(call, args.first_position, begin, begin + range.keys, true);
    range.q = q;
    range.k = keys_.as<uint16_t>();
    range.v = values_.as<uint16_t>();
    range.out = q + (1 + part) * rows * cols;
    range.stats = state_.as<float>() + part * denominators;
    cudnn_->Run(range);
    begin += range.keys;
    const bool ends = i + 1 == count;
    if (part + 1 < at_once && !ends) continue;
    merge.count = static_cast<int>(part + 1);
    merge.after = ends ? nullptr : next_sums;
    merge.rotate_back = ends && call.ends.rotate_out;
    merge.bf16 = ends ? call.ends.bf16 : nullptr;
    LaunchMergeParts(merge, stream_);
    merge.before = next_sums;
    std::swap(sums, next_sums);
  }
  return true;
}

void PrefillAttention::QueriesToHalf(const Call& call, uint16_t* out) {
  const AttentionArgs& args = call.args;
  const int head_dim = call.pages.open.head_dim;
  if (call.ends.rotate_q) {
    LaunchQueriesToHalf({.q = args.q,
                         .out = out,
                         .stride = args.q_stride,
                         .rows = args.tokens,
                         .q_heads = args.q_heads,
                         .head_dim = head_dim},
                        stream_);
  } else {
    LaunchRowsToHalf({.x = args.q,
                      .out = out,
                      .stride = args.q_stride,
                      .rows = args.tokens,
                      .cols = int64_t{args.q_heads} * head_dim},
                     stream_);
  }
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
      } else {  // pages that this block reads in another form than the one before, and its own
        const auto decode_again = [&](int window_pages) {
          const int64_t page = position / kPageTokens - 1 - window_pages;
          if (!visibility.seals || page * kPageTokens < begin || page < visibility.sink_pages)
            return;
          Decode(call, position, page * kPageTokens, (page + 1) * kPageTokens,
                 page * kPageTokens - begin);
        };
        decode_again(visibility.window_pages);
        for (int i = 0; i < call.pages.num_aged; ++i)
          decode_again(call.pages.aged[static_cast<size_t>(i)].window_pages);
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
  for (int64_t begin = queries.begin; begin < queries.end; begin += most) {
    const int64_t end = std::min(begin + most, queries.end);
    Expand(call, queries.position, begin, end, fresh);
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

void PrefillAttention::Expand(const Call& call, int64_t position, int64_t begin, int64_t end,
                              bool fresh) {
  const int64_t past = fresh ? call.args.first_position : end;
  if (begin < past) Decode(call, position, begin, std::min(end, past), 0);
  if (end > past) TakeFresh(call, std::max(begin, past), end, std::max(begin, past) - begin);
}

void PrefillAttention::TakeFresh(const Call& call, int64_t begin, int64_t end, int64_t row) {
  const AttentionArgs& args = call.args;
  const int64_t from = (begin - args.first_position) * args.fresh_stride;
  LaunchRowsToHalf({.x = args.fresh_k + from,
                    .out = KeyRow(call, row),
                    .second_x = args.fresh_v + from,
                    .second_out = ValueRow(call, row),
                    .stride = args.fresh_stride,
                    .rows = end - begin,
                    .cols = RowValues(call.pages)},
                   stream_);
}

int64_t PrefillAttention::MostTokens(const Call& call) const {
  const int64_t token_bytes = 2 * RowValues(call.pages) * static_cast<int64_t>(sizeof(uint16_t));
  return std::max<int64_t>(workspace_bytes_ / token_bytes / kPageTokens, 1) * kPageTokens;
}

// Grows in large steps: a prompt's chunks reach further and further.
void PrefillAttention::ReserveKeys(const Call& call, int64_t tokens) {
  const int64_t rounded = std::min((tokens + 4095) / 4096 * 4096, MostTokens(call));
  const auto bytes = static_cast<size_t>(std::max(rounded, tokens) * RowValues(call.pages)) * 2;
  // cuDNN multiplies what lies behind the keys by zeros: no NaN may lie there.
  keys_.EnsureZeroed(bytes, "decoded keys of a prompt", stream_);
  values_.EnsureZeroed(bytes, "decoded values of a prompt", stream_);
}

// For our own kernel.
void PrefillAttention::Reserve(const Call& call, int64_t tokens, int queries) {
  ReserveKeys(call, tokens);
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
