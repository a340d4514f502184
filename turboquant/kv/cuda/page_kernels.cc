// SPDX-License-Identifier: Apache-2.0
#include "turboquant/kv/cuda/page_kernels.h"

#include <algorithm>
#include <iterator>
#include <vector>

#include "turboquant/base/error.h"
#include "turboquant/codec/codebook.h"
#include "turboquant/codec/cuda/launch.h"
#include "turboquant/kv/cuda/page_params.h"
#include "turboquant/kv/cuda/trellis_memory.h"

namespace tq::cuda {
namespace {

PageSides SidesOf(const PageLayout& layout, uint64_t layer_offset) {
  PageSides sides = {};
  sides.k = SideOf(layout, Side::kKey);
  sides.v = SideOf(layout, Side::kValue);
  sides.k.tile = sides.v.tile = MakeTileLayout(layout.head_dim);
  sides.reference_offset = layout.reference_offset;
  sides.tiles_offset = layout.tiles_offset;
  sides.head_bytes = layout.head_bytes;
  sides.layer_offset = layer_offset;
  return sides;
}

void SetAged(const LayerPages& pages, PageSides* aged) {
  for (int i = 0; i < pages.num_aged; ++i) {
    const AgedPages& form = pages.aged[static_cast<size_t>(i)];
    aged[i] = SidesOf(form.layout, form.layer_offset);
  }
}

void SetBook(const TileSide& side, Codebook& book, Trellis& trellis, float& gain) {
  if (side.rows || side.bits == 8) return;
  if (side.trellis) {
    trellis = TrellisOfBits(side.bits);
    gain = TrellisGain(side.bits, side.tile.head_dim);
    return;
  }
  book = CodebookOfBits(side.bits);
  gain = CodebookGain(side.bits, side.tile.head_dim);
}

// From this many tokens on two launches are less than one block's way from token to token.
constexpr int kSpreadTokens = 32;

bool HasDim(int head_dim) {
  return std::find(kHeadDims.begin(), kHeadDims.end(), head_dim) != kHeadDims.end();
}

EncodeParams MakeEncodeParams(const EncodeArgs& args) {
  const PageLayout& layout = args.pages.open;
  EncodeParams p = {};
  p.tables = args.tables;
  p.arena = args.pages.arena;
  p.open = SidesOf(layout, args.pages.open_layer_offset);
  p.sealed = SidesOf(args.pages.sealed, args.pages.sealed_layer_offset);
  p.num_aged = args.pages.num_aged;
  SetAged(args.pages, p.aged);
  p.k = args.k;
  p.v = args.v;
  p.k_stride = args.k_stride;
  p.v_stride = args.v_stride;
  p.kept_keys = args.kept_keys;
  p.rotate_k = args.rotate_k && !p.open.k.rows;
  p.rotate_v = args.rotate_v && !p.open.v.rows;
  if (p.rotate_k) p.k_rotation = MakeRotationTable(layout.head_dim, Side::kKey, false);
  if (p.rotate_v) p.v_rotation = MakeRotationTable(layout.head_dim, Side::kValue, false);
  p.mean = args.mean;
  p.centring = args.centring;
  p.kv_heads = layout.kv_heads;
  p.pages = (args.max_tokens - 2) / kPageTokens + 2;  // wherever in a page the first token falls
  if (args.max_tokens == 1) p.pages = 1;
  p.spread = args.max_tokens >= kSpreadTokens;
  return p;
}

// A side whose codec stays is copied, by the kernel that does all but searches.
bool NeedsSearch(const TileSide& open, const TileSide& sealed) {
  return sealed.trellis && sealed.codec != open.codec;
}

SealParams MakeSealParams(std::byte* arena, const PageLayout& open, const PageLayout& sealed) {
  SealParams p = {};
  p.arena = arena;
  p.open = SidesOf(open, 0);
  p.sealed = SidesOf(sealed, 0);
  SetBook(p.sealed.k, p.k_book, p.k_trellis, p.k_gain);
  SetBook(p.sealed.v, p.v_book, p.v_trellis, p.v_gain);
  return p;
}

// launch(count) with each batch of jobs in p.
template <typename Fn>
void ForBatches(std::span<const SealJob> jobs, SealParams& p, const Fn& launch) {
  for (size_t done = 0; done < jobs.size();) {
    const size_t count = std::min<size_t>(kSealBatch, jobs.size() - done);
    std::copy_n(jobs.begin() + static_cast<std::ptrdiff_t>(done), count, p.jobs);
    launch(static_cast<int>(count));
    done += count;
  }
}

}  // namespace

void CheckPageKernels(const PageLayout& layout) {
  if (!HasDim(layout.head_dim)) {
    std::string dims;
    for (const int dim : kHeadDims) dims += (dims.empty() ? "" : ", ") + std::to_string(dim);
    Throw(ErrorCode::kUnsupported, "CUDA has no kernels for head dim {} (it has: {})",
          layout.head_dim, dims);
  }
  for (const Codec codec : {layout.k, layout.v}) {
    const CodecInfo& info = InfoOf(codec);
    if (!info.tiles && codec != Codec::kF16 && codec != Codec::kQ8_0) {
      Throw(ErrorCode::kUnsupported,
            "CUDA has no kernels for cache type {}; of the comparison types it has f16 and q8_0",
            info.name);
    }
  }
}

void LaunchEncode(const EncodeArgs& args, Stream stream) {
  CheckPageKernels(args.pages.open);
  const EncodeParams p = MakeEncodeParams(args);
  TQ_CHECK(!NeedsKeyChain(args) || args.kept_keys != nullptr);
  const int heads = args.tables.slots * p.kv_heads;
  const int parts = p.spread ? 2 * p.pages * kEncodeSlices : 1 + p.pages;
  LaunchMaybeOverlapping(true, EncodeKernelOf(args.pages.open.head_dim), heads * parts,
                         kPageThreads, EncodeMemory(args.pages.open.head_dim), stream, p);
}

bool NeedsKeyChain(const EncodeArgs& args) {
  return args.max_tokens >= kSpreadTokens && InfoOf(args.pages.open.k).tiles;
}

void LaunchKeyChain(const EncodeArgs& args, Stream stream) {
  const EncodeParams p = MakeEncodeParams(args);
  const int dim = args.pages.open.head_dim;
  LaunchMaybeOverlapping(true, KeyChainKernelOf(dim), args.tables.slots * p.kv_heads, kChainThreads,
                         KeyChainMemory(dim), stream, p);
}

PageSealer::PageSealer(std::byte* arena, const PageLayout& open, const PageLayout& sealed,
                       std::span<const SealJob> jobs)
    : arena_(arena), open_(open), sealed_(sealed) {
  CheckPageKernels(open);
  CheckPageKernels(sealed);
  for (const Side side : {Side::kKey, Side::kValue}) {
    const bool search = NeedsSearch(SideOf(open, side), SideOf(sealed, side));
    for (const SealJob& job : jobs) {
      if (job.side != side) continue;
      if (search) searches_[static_cast<size_t>(side)].push_back(job);
      const bool reference = side == Side::kKey && job.behind_offset == kNoOffset;
      if (!search || reference) rest_.push_back(job);
    }
  }
}

int PageSealer::SearchBlocks(Side side) const {
  return static_cast<int>(searches_[static_cast<size_t>(side)].size()) *
         TrellisBlocksOfPage(sealed_.tile);
}

void PageSealer::SealAll(Stream stream) const {
  const int values = SearchBlocks(Side::kValue), keys = SearchBlocks(Side::kKey);
  const bool same_bits = SideOf(sealed_, Side::kKey).bits == SideOf(sealed_, Side::kValue).bits;
  PrepareSearch(Side::kValue, stream);
  if (values == 0 || !same_bits) PrepareSearch(Side::kKey, stream);
  SealRest(stream);
  // Values take longest, and wait for all before them. Keys of few pages find multiprocessors of
  // their own and run beside values; blocks of both sides on one are slower, for their code does
  // not fit its cache (docs/measurements-cuda.md).
  Search(Side::kValue, false, stream);
  const bool few = values + keys <= CurrentDeviceLimits().processors;
  Search(Side::kKey, values > 0 && few, stream);
}

void PageSealer::PrepareSearch(Side side, Stream stream) const {
  if (SearchBlocks(side) == 0) return;
  Launch(TrellisCostsKernelOf(), kTrellisCostsBlocks, kTrellisCostsThreads, 0, stream,
         TrellisOfBits(SideOf(sealed_, side).bits));
}

void PageSealer::SealRest(Stream stream) const {
  SealParams p = MakeSealParams(arena_, open_, sealed_);
  ForBatches(rest_, p, [&](int count) {
    Launch(SealKernelOf(open_.head_dim), count, kPageThreads, MakeSealMemory(open_.head_dim).size,
           stream, p);
  });
}

void PageSealer::Search(Side side, bool overlap, Stream stream) const {
  if (SearchBlocks(side) == 0) return;
  SealParams p = MakeSealParams(arena_, open_, sealed_);
  const TileSide to = SideOf(sealed_, side);
  p.moves = TrellisMovesOf(to.bits, side, to.tile.head_dim);
  ForBatches(searches_[static_cast<size_t>(side)], p, [&](int count) {
    LaunchMaybeOverlapping(overlap, TrellisSealKernelOf(to.tile.head_dim, side, to.bits),
                           count * TrellisBlocksOfPage(to.tile), TrellisThreads(to.tile),
                           MakeTrellisMemory(to.tile, 1 << TrellisOfBits(to.bits).parities).size,
                           stream, p);
  });
}

void LaunchDequantize(const DequantizeArgs& args, Stream stream) {
  if (args.count <= 0) return;
  const PageLayout& layout = args.pages.open;
  CheckPageKernels(layout);
  DequantizeParams p = {};
  p.tables = args.tables;
  p.arena = args.pages.arena;
  p.open = SidesOf(layout, args.pages.open_layer_offset);
  p.sealed = SidesOf(args.pages.sealed, args.pages.sealed_layer_offset);
  p.visibility = args.pages.visibility;
  p.ages = WindowsOf(args.pages);
  SetAged(args.pages, p.aged);
  p.slot = args.slot;
  p.position = args.position;
  p.first = args.first;
  p.count = args.count;
  p.kv_heads = layout.kv_heads;
  p.k = args.k;
  p.v = args.v;
  const int64_t pages = (args.first + args.count - 1) / kPageTokens - args.first / kPageTokens + 1;
  LaunchMaybeOverlapping(true, DequantizeKernelOf(layout.head_dim),
                         static_cast<int>(pages * layout.kv_heads * 2), kPageThreads,
                         MakeDequantizeMemory(layout.head_dim).size, stream, p);
}

}  // namespace tq::cuda
