// SPDX-License-Identifier: Apache-2.0
// New tokens into open pages. Keys of a head go page by page, because a page opens with the mean of
// the one before: few tokens in one block; of many, all the rest is done here, page beside page,
// and encode_keys.cu goes through the pages.
#include "turboquant/codec/cuda/head_dims.h"
#include "turboquant/kv/cuda/encoder.cuh"

namespace tq::cuda {
namespace {

template <int kDim>
TQ_KERNEL(kPageThreads, 4)
EncodeKernel(const TQ_GRID_CONSTANT EncodeParams p) {
  LetNextStart();
  const int slices = p.spread ? kEncodeSlices : 1;
  const int key_parts = p.spread ? p.pages * slices : 1;
  const int parts = key_parts + p.pages * slices;
  const int part = BlockId() % parts;
  const int head = BlockId() / parts % p.kv_heads;
  const int slot = BlockId() / parts / p.kv_heads;
  const int count = p.tables.tokens[slot];
  const int first = p.tables.first_positions[slot];
  const int first_page = first / kPageTokens, last_page = (first + count - 1) / kPageTokens;
  const Encoder<kDim> encoder = {p, slot, head};
  const bool keys = part < key_parts;
  // Where the tokens go is known before they are: tables do not change within a step.
  const bool centred = keys && !p.spread && !p.open.k.rows;
  if (centred && count > 0 && ThreadId() * kCacheLine <= 2 * kDim) {
    PrefetchLine(encoder.Open(first_page) + p.open.reference_offset + ThreadId() * kCacheLine);
  }
  WaitForInputs();
  if (count == 0) return;
  if (!keys || p.spread) {
    const int unit = keys ? part : part - key_parts;
    const int page = first_page + unit / slices, slice = unit % slices;
    if (page > last_page) return;
    if (!keys) {
      encoder.template EncodePage<Side::kValue>(page, slice, slices, first, count);
    } else if (p.open.k.rows) {
      encoder.template EncodePage<Side::kKey>(page, slice, slices, first, count);
    } else {
      encoder.KeepKeys(page, slice, slices, first, count);
    }
    return;
  }
  for (int page = first_page; page <= last_page; ++page) {
    if (!p.open.k.rows && page * kPageTokens >= first) encoder.OpenPage(page);
    SyncThreads();
    encoder.template EncodePage<Side::kKey>(page, 0, 1, first, count);
    SyncThreads();
  }
}

}  // namespace

EncodeKernelFn EncodeKernelOf(int head_dim) {
  return ForHeadDim<EncodeKernelFn>(
      head_dim, []<int kDim>() -> EncodeKernelFn { return EncodeKernel<kDim>; });
}

}  // namespace tq::cuda
