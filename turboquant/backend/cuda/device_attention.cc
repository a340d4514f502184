// SPDX-License-Identifier: Apache-2.0
#include "turboquant/backend/cuda/device_attention.h"

#include <algorithm>

#include "turboquant/attention/cuda/decode_attention.h"
#include "turboquant/attention/cuda/row_attention.h"
#include "turboquant/backend/cuda/device_step.h"
#include "turboquant/base/cuda/cuda_error.h"
#include "turboquant/base/error.h"
#include "turboquant/codec/cuda/map_kernels.h"
#include "turboquant/kv/cuda/page_kernels.h"

namespace tq::cuda {
namespace {

LayerPages PagesOf(const KvLayerView& kv) {
  return {kv.arena, kv.open_layer_offset, kv.sealed_layer_offset, kv.open, kv.sealed, kv.visibility,
          kv.aged,  kv.num_aged};
}

bool IsShort(const AttentionArgs& args) { return args.tokens <= DeviceStep::kMostShort; }
// Where the step's own tokens are: in pages, or in fresh rows.
bool ReadsNewPages(const AttentionArgs& args) { return IsShort(args) || args.fresh_k == nullptr; }
// All heads' results: a product's tokens, if they are all of the step's.
MatrixView<const float> ResultsOf(const AttentionArgs& args) {
  return {args.out, args.tokens, int64_t{args.q_heads} * args.kv.open.head_dim, args.out_stride};
}

}  // namespace

void CheckAttention(const PageLayout& layout, int q_heads) {
  if (MaxDecodeTokens(q_heads, layout.kv_heads) < DeviceStep::kMostShort) {
    Throw(ErrorCode::kUnsupported,
          "device 'cuda' runs groups of up to 16 query heads per KV head, this model has {}: use "
          "--device cpu",
          q_heads / layout.kv_heads);
  }
  CheckPageKernels(layout);
  IsRowPage(layout) ? CheckRowAttention(layout) : CheckDecode(layout, q_heads);
}

void DeviceAttention::Encode(std::span<const tq::EncodeArgs> calls, const StepTables& tables) {
  const tq::EncodeArgs& first = calls.front();
  const PageLayout& open = first.kv.open;
  cuda::EncodeArgs args;
  args.tables = tables;
  args.pages = PagesOf(first.kv);
  args.k = first.k;
  args.v = first.v;
  args.k_stride = args.v_stride = first.stride;
  args.centring = first.centring;
  int64_t rows = 0;
  for (const tq::EncodeArgs& call : calls) {
    args.max_tokens = std::max(args.max_tokens, call.tokens);
    rows += call.tokens;
  }
  if (first.key_maps != nullptr && InfoOf(open.k).tiles) {
    const DeviceKeyMaps::Layer& maps = MapsOf(first.key_maps, open);
    args.mean = maps.mean;
    args.rotate_k = false;
    LaunchMapRows({.x = first.k,
                   .rows = rows,
                   .stride = first.stride,
                   .heads = open.kv_heads,
                   .head_dim = open.head_dim,
                   .matrices = maps.keys,
                   .map_heads = open.kv_heads},
                  stream_);
  }
  keys_under_way_ = NeedsKeyChain(args);
  if (keys_under_way_) {
    EncodeMany(args, rows);
  } else {
    LaunchEncode(args, stream_);
  }
  CheckLaunch("encoding keys and values");
}

bool DeviceAttention::Attend(std::span<const AttentionArgs> calls, const StepTables& tables,
                             const StepTables& short_tables, const KeyMap* key_maps,
                             bool capturing) {
  int tokens = 0;
  for (const AttentionArgs& call : calls) {
    if (ReadsNewPages(call)) WaitForKeys();
    if (IsShort(call)) tokens = std::max(tokens, call.tokens);
  }
  const bool grew = tokens > 0 && AttendShort(calls, short_tables, tokens, key_maps, capturing);
  for (size_t i = 0; i < calls.size(); ++i) {
    if (IsShort(calls[i])) continue;
    TQ_CHECK(!capturing);  // positions and ranges would be captured with it
    uint16_t* bf16 = calls.size() == 1 ? linear_.TokensFor(ResultsOf(calls[i])).bf16 : nullptr;
    const bool there = AttendPrompt(calls[i], tables, static_cast<int>(i), key_maps, bf16);
    if (!there) linear_.Forget();
  }
  CheckLaunch("attending");
  return grew;
}

// A chain from page to page takes few multiprocessors and long: the step goes on beside it.
void DeviceAttention::EncodeMany(EncodeArgs args, int64_t rows) {
  const PageLayout& open = args.pages.open;
  work_.LaunchAllPutOff();
  const int lane = work_.NextLane();
  work_.WaitForCopy(lane);
  DeviceBytes& kept = kept_keys_[lane];
  kept.EnsureSize(static_cast<size_t>(rows * open.kv_heads * open.head_dim) * sizeof(float),
                  "keys of a prompt");
  args.kept_keys = kept.as<float>();
  LaunchEncode(args, stream_);
  work_.EncodeKeys([args](cudaStream_t stream) { LaunchKeyChain(args, stream); });
}

void DeviceAttention::WaitForKeys() {
  if (keys_under_way_) work_.MakeMainWait();
  keys_under_way_ = false;
}

// q <- H A^-T q, if the keys lie in tiles.
void DeviceAttention::MapQueries(const AttentionArgs& args, const KeyMap* key_maps) {
  const PageLayout& layout = args.kv.open;
  if (!InfoOf(layout.k).tiles) return;
  // The contract: q is transformed in place.
  LaunchMapRows({.x = const_cast<float*>(args.q),
                 .rows = args.tokens,
                 .stride = args.q_stride,
                 .heads = args.q_heads,
                 .head_dim = layout.head_dim,
                 .matrices = MapsOf(key_maps, layout).queries,
                 .map_heads = layout.kv_heads},
                stream_);
}

bool DeviceAttention::AttendShort(std::span<const AttentionArgs> calls, const StepTables& tables,
                                  int tokens, const KeyMap* key_maps, bool capturing) {
  const AttentionArgs& first = calls.front();
  const PageLayout& open = first.kv.open;
  if (IsRowPage(open)) return AttendRows(first, tables, tokens);
  if (key_maps != nullptr) {
    for (const AttentionArgs& call : calls)
      if (IsShort(call)) MapQueries(call, key_maps);
  }
  DecodeArgs args;
  args.tables = tables;
  args.pages = PagesOf(first.kv);
  args.q = first.q;
  args.out = first.out;
  args.q_stride = first.q_stride;
  args.out_stride = first.out_stride;
  args.q_heads = first.q_heads;
  args.tokens = tokens;
  args.scale = first.scale;
  args.rotate_q = InfoOf(open.k).tiles && key_maps == nullptr;
  args.rotate_out = InfoOf(open.v).tiles;
  // A captured step writes neither tables nor sealed pages; another one may seal just before.
  args.overlap = capturing;
  const int64_t bytes = DecodeWorkspaceBytes({.head_dim = open.head_dim,
                                              .kv_heads = open.kv_heads,
                                              .q_heads = first.q_heads,
                                              .tokens = tokens});
  const bool grew = Reserve(workspace_, bytes);
  LaunchDecodeAttention(args, workspace_.as<void>(), static_cast<int64_t>(workspace_.size()),
                        stream_);
  return grew;
}

bool DeviceAttention::AttendRows(const AttentionArgs& first, const StepTables& tables, int tokens) {
  const RowAttentionArgs args{.tables = tables,
                              .pages = PagesOf(first.kv),
                              .q = first.q,
                              .out = first.out,
                              .q_stride = first.q_stride,
                              .out_stride = first.out_stride,
                              .q_heads = first.q_heads,
                              .tokens = tokens,
                              .scale = first.scale};
  const bool grew = Reserve(row_workspace_, RowAttentionWorkspaceBytes(args));
  LaunchRowAttention(args, row_workspace_.as<void>(), stream_);
  return grew;
}

// Zeros at first: attention by rows leaves its counters zero.
bool DeviceAttention::Reserve(DeviceBytes& workspace, int64_t bytes) {
  return workspace.EnsureZeroed(static_cast<size_t>(bytes), "the workspace of attention", stream_);
}

bool DeviceAttention::AttendPrompt(const AttentionArgs& args, const StepTables& tables, int slot,
                                   const KeyMap* key_maps, uint16_t* bf16) {
  if (ReadsNewPages(args)) WaitForKeys();
  if (key_maps != nullptr) MapQueries(args, key_maps);
  const PageLayout& layout = args.kv.open;
  return prefill_.Run(args, tables, PagesOf(args.kv), slot,
                      {.rotate_q = InfoOf(layout.k).tiles && key_maps == nullptr,
                       .rotate_out = InfoOf(layout.v).tiles,
                       .bf16 = bf16});
}

}  // namespace tq::cuda
