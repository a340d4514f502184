// SPDX-License-Identifier: Apache-2.0
// Host side of decode attention: which kernel, which grid, which workspace.
#include "turboquant/attention/cuda/decode_attention.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "turboquant/attention/cuda/decode_instances.h"
#include "turboquant/attention/cuda/decode_memory.h"
#include "turboquant/codec/cuda/launch.h"

namespace tq::cuda {
namespace {

constexpr int kMostTokens = 32;
constexpr int kMostGroup = 16;
// Of a block: fewer blocks are fewer partials to merge (1 x 4K of turbo3: 6.0 us with 4 units, 5.6
// with 8). A block of a wide kernel takes one for each of its runs (13.9 us; 15.0 with 4).
constexpr int kMinUnits = 8;
constexpr int kMinWideUnits = kMostWideRuns;

// How the query rows of one KV head become columns of warps.
struct ColumnPlan {
  int sets;                                       // per warp, of four rows
  int groups;                                     // of rows of a block, each of other warps
  int items;                                      // blocks' worth of rows
  bool wide;                                      // warps share steps and rows
  int rows() const { return sets * 4 * groups; }  // of one block
  int step_warps() const { return wide ? kWideWarps : groups; }
};

// wide: there may be wide kernels, which are faster with products of four warps at once.
ColumnPlan PlanColumns(int head_dim, int rows, bool wide) {
  ColumnPlan plan = {1, 1, 1, false};
  while (plan.sets < MaxSets(head_dim) && plan.rows() < rows) plan.sets *= 2;
  if (plan.rows() < rows && wide && WideSets(head_dim) > 0) {
    plan.wide = true;
    plan.sets = WideSets(head_dim);
  } else {
    while (plan.groups < 4 && plan.rows() < rows) plan.groups *= 2;
  }
  plan.items = (rows + plan.rows() - 1) / plan.rows();
  return plan;
}

int OpenLog(int head_dim) {
  const int tiles = MakeTileLayout(head_dim).tiles_per_page();
  return tiles == 4 ? 2 : tiles == 2 ? 1 : 0;
}

int WideLog(bool open) {
  return std::countr_zero(static_cast<unsigned>(kPageTokens / WideStepTokens(open)));
}

PageForm FormOf(const PageLayout& layout, uint64_t layer_offset, int step_log) {
  PageForm form = {};
  form.k = layout.k;
  form.v = layout.v;
  form.step_log = step_log;
  form.head_bytes = layout.head_bytes;
  form.tile_bytes = layout.tile_bytes;
  form.v_offset = layout.tile_v_offset;
  form.scale_offset = layout.tile_scale_offset;
  form.layer_offset = layer_offset;
  return form;
}

struct Choice {
  DecodeKernelFn kernel;
  ColumnPlan columns;
  bool fixed;
};

using KernelsOfPair = DecodeKernelFn (*)(int head_dim, int sets);
// Null if there is none.
KernelsOfPair FindFixedPair(const LayerPages& pages) {
  const auto is = [](const PageLayout& layout, Codec k, Codec v) {
    return layout.k == k && layout.v == v;
  };
  if (!is(pages.open, Codec::kTurbo8, Codec::kTurbo8)) return nullptr;
  if (!pages.visibility.seals) return Turbo8Kernel;
  if (is(pages.sealed, Codec::kTurbo4, Codec::kTurbo4)) return Turbo4Kernel;
  if (is(pages.sealed, Codec::kTurbo3, Codec::kTurbo3)) return Turbo3Kernel;
  if (is(pages.sealed, Codec::kTurbo2, Codec::kTurbo2)) return Turbo2Kernel;
  if (is(pages.sealed, Codec::kTurbo3Tcq, Codec::kTurbo3Tcq)) return Turbo3TcqKernel;
  if (is(pages.sealed, Codec::kTurbo4Tcq, Codec::kTurbo3Tcq)) return Turbo43TcqKernel;
  return nullptr;
}

Choice ChooseKernel(const DecodeArgs& args, int rows, bool group_mma) {
  const int dim = args.pages.open.head_dim;
  const KernelsOfPair pair = FindFixedPair(args.pages);
  if (pair != nullptr && args.pages.num_aged == 0 && !args.generic) {
    const ColumnPlan columns = PlanColumns(dim, rows, group_mma && !args.narrow);
    const DecodeKernelFn kernel = pair(dim, columns.sets);
    if (kernel != nullptr) return {kernel, columns, true};
  }
  const ColumnPlan columns = PlanColumns(dim, rows, false);
  return {AnyKernel(dim, columns.sets), columns, false};
}

int64_t PartialBytes(int blocks, const ColumnPlan& columns, int head_dim) {
  return int64_t{2} * blocks * columns.rows() * (head_dim + 2) * 4;
}

}  // namespace

int MaxDecodeTokens(int q_heads, int kv_heads) {
  return q_heads / kv_heads <= kMostGroup ? kMostTokens : 0;
}

void CheckDecode(const PageLayout& layout, int q_heads) {
  if (!InfoOf(layout.k).tiles || !InfoOf(layout.v).tiles) {
    Throw(ErrorCode::kUnsupported,
          "device 'cuda' has no kernel for keys of {} beside values of {}: two turbo types, or two "
          "of "
          "f16 and q8_0",
          InfoOf(layout.k).name, InfoOf(layout.v).name);
  }
  const int group = q_heads / layout.kv_heads;
  if (group > kMostGroup || group * layout.kv_heads != q_heads) {
    Throw(ErrorCode::kUnsupported,
          "CUDA attention takes 1 to {} query heads per KV head, not {} over {}", kMostGroup,
          q_heads, layout.kv_heads);
  }
}

int64_t DecodeWorkspaceBytes(const DecodeLimits& limits) {
  const DeviceLimits device = CurrentDeviceLimits();
  int64_t bytes = 0;
  // Fewer tokens may need more items than many; the largest is what counts.
  for (int tokens = 1; tokens <= limits.tokens; ++tokens) {
    for (const bool wide : {false, device.group_mma}) {
      const ColumnPlan columns =
          PlanColumns(limits.head_dim, tokens * (limits.q_heads / limits.kv_heads), wide);
      bytes = std::max(bytes, PartialBytes(device.processors, columns, limits.head_dim));
    }
  }
  return bytes;
}

void LaunchDecodeAttention(const DecodeArgs& args, void* workspace, int64_t workspace_bytes,
                           Stream stream) {
  const PageLayout& layout = args.pages.open;
  const int dim = layout.head_dim;
  DeviceLimits device = CurrentDeviceLimits();
  if (args.blocks > 0) device.processors = std::min(device.processors, args.blocks);
  const int group = args.q_heads / layout.kv_heads;
  const Choice choice = ChooseKernel(args, args.tokens * group, device.group_mma);
  const ColumnPlan& columns = choice.columns;
  TQ_CHECK(choice.kernel != nullptr);
  TQ_CHECK(reinterpret_cast<uintptr_t>(args.q) % 16 == 0 && args.q_stride % 4 == 0);

  DecodeParams p = {};
  p.tables = args.tables;
  p.arena = args.pages.arena;
  const int open_log = columns.wide ? WideLog(true) : OpenLog(dim);
  const int sealed_log = columns.wide ? WideLog(false) : choice.fixed ? 1 : open_log;
  p.open = FormOf(args.pages.open, args.pages.open_layer_offset, open_log);
  p.sealed = FormOf(args.pages.sealed, args.pages.sealed_layer_offset, sealed_log);
  p.visibility = args.pages.visibility;
  p.ages = WindowsOf(args.pages);
  for (int i = 0; i < p.ages.count; ++i) {
    const AgedPages& aged = args.pages.aged[static_cast<size_t>(i)];
    p.aged[i] = FormOf(aged.layout, aged.layer_offset, sealed_log);
  }
  p.q = args.q;
  p.out = args.out;
  p.q_stride = args.q_stride;
  p.out_stride = args.out_stride;
  p.kv_heads = layout.kv_heads;
  p.group = group;
  p.items = columns.items;
  p.blocks = device.processors;
  p.step_warps = columns.step_warps();
  p.columns_log = std::countr_zero(static_cast<unsigned>(columns.rows()));
  p.by_group = Divisor::Of(group);
  p.by_blocks = Divisor::Of(device.processors);
  const int heads = p.heads();
  p.parts = args.tables.slots > 32 ? 0 : device.processors / heads;
  if (p.parts * heads < device.processors / 8 * 7) p.parts = 0;
  p.by_parts = Divisor::Of(std::max(1, p.parts));
  p.score_scale = args.scale * 1.44269504088896341f;
  p.rotate_q = args.rotate_q;
  p.rotate_out = args.rotate_out;
  p.overlap = args.overlap;
  if (args.rotate_q) p.q_rotation = MakeRotationTable(dim, Side::kKey, false);
  if (args.rotate_out) p.out_rotation = MakeRotationTable(dim, Side::kValue, true);
  p.min_units = columns.wide ? kMinWideUnits : kMinUnits;
  for (int i = 0; i < kLevelTableWords; ++i) p.levels[i] = LevelTableWord(i);

  const auto step_bytes = [&](const PageForm& form) {
    return static_cast<int>(form.tile_bytes) *
           (MakeTileLayout(dim).tiles_per_page() >> form.step_log);
  };
  int stage = step_bytes(p.open);
  for (int form = kSealedForm; p.visibility.seals && form <= kSealedForm + p.ages.count; ++form)
    stage = std::max(stage, step_bytes(p.Form(form)));
  p.stage_bytes = (stage + dim * 2 + 127) / 128 * 128;
  const auto memory_of = [&](int warps, int crews) {
    return MakeDecodeMemory(dim, columns.sets, crews * columns.rows(), warps, p.stage_bytes).size;
  };
  int warps = MaxWarps(dim, columns.sets) / p.step_warps * p.step_warps;
  while (warps > p.step_warps && memory_of(warps, 1) > device.shared_memory) {
    warps -= p.step_warps;
  }
  TQ_CHECK(memory_of(warps, 1) <= device.shared_memory);
  p.phases = warps / p.step_warps;
  const bool crews = p.phases > 1 && !columns.wide;  // a wide block takes one segment at a time
  p.crews = crews && memory_of(warps, 2) <= device.shared_memory ? 2 : 1;
  for (int i = 1; i <= kMostDecodeWarps; ++i) p.by[i] = Divisor::Of(i);
  // Parts of outputs take the ring's place.
  TQ_CHECK(columns.sets * 4 * (dim + kRowPad) * 4 <= kStages * p.stage_bytes);

  TQ_CHECK(PartialBytes(device.processors, columns, dim) <= workspace_bytes);
  p.partials = static_cast<float*>(workspace);
  const int threads = 32 * (warps + LoaderWarps(dim, columns.sets));
  LaunchMaybeOverlapping(args.overlap, choice.kernel, device.processors, threads,
                         memory_of(warps, p.crews), stream, p);
  LaunchMaybeOverlapping(true, HeadMerger(dim, p.ages.count > 0), p.merges() << p.columns_log,
                         kMergeThreads, MergeBytes(dim), stream, p);
}

}  // namespace tq::cuda
