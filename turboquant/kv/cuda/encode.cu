// SPDX-License-Identifier: Apache-2.0
// New tokens into open pages: rotation, reference vector, scale, codes, with the bytes of
// PageCodec. Keys of a head go page by page in one block, because a page opens with the mean of the
// one before; values have a block per page.
#include "turboquant/codec/cuda/head_dims.h"
#include "turboquant/codec/cuda/page_ops.cuh"
#include "turboquant/codec/cuda/rotation.cuh"
#include "turboquant/kv/cuda/page_params.h"

namespace tq::cuda {
namespace {

template <int kDim>
struct Encoder {
  static constexpr int kParts = (kDim + 31) / 32;

  const EncodeParams& p;
  int slot, head;

  TQ_DEVICE std::byte* Open(int page) const {
    const uint32_t id =
        p.tables.open_pages[static_cast<int64_t>(slot) * p.tables.page_stride + page];
    return p.arena + id * kPageIdUnit + p.open.layer_offset +
           static_cast<uint64_t>(head) * p.open.head_bytes;
  }

  // Fixes the reference vector of a page whose first token is about to come.
  TQ_DEVICE void OpenPage(int page) const {
    std::byte* to = Open(page);
    for (int dim = ThreadId(); dim < kDim; dim += Threads()) {
      float r = 0;
      if (page == 0) {
        if (p.mean != nullptr) r = p.mean[head * kDim + dim];
      } else if (p.centring) {
        const int64_t at = static_cast<int64_t>(slot) * p.tables.page_stride + page - 1;
        if (p.tables.open_pages[at] != kNoPage) {
          r = MeanKey8(p.open.k, Open(page - 1), p.open.reference_offset, dim);
        } else {
          const std::byte* sealed = p.arena + p.tables.sealed_pages[at] * kPageIdUnit +
                                    p.sealed.layer_offset +
                                    static_cast<uint64_t>(head) * p.sealed.head_bytes;
          r = p.sealed.k.codec == p.open.k.codec
                  ? MeanKey8(p.sealed.k, sealed, p.sealed.reference_offset, dim)
                  : ReadHalf(sealed + p.sealed.reference_offset + 2 * dim);
        }
      }
      StoreHalf(to + p.open.reference_offset + 2 * dim, FiniteHalf(Sanitize(r)));
    }
    WriteReferencePadding(p.open.k, to, p.open.reference_offset, p.open.tiles_offset);
  }

  // One token by one warp. x: its floats, rotated in place if asked; scratch [kDim] in shared
  // memory.
  TQ_DEVICE void EncodeToken(const TileSide& s, bool other_in_rows, std::byte* page, int token,
                             float* x, const RotationTable* rotation, float* scratch) const {
    const int lane = LaneId();
    if (rotation != nullptr) {
      for (int d = lane; d < kDim; d += 32) scratch[d] = x[d];
      SyncWarp();
      RotateRow<kDim>(*rotation, scratch, lane);
      for (int d = lane; d < kDim; d += 32) x[d] = scratch[d];
    }
    float z[kParts];
#pragma unroll
    for (int j = 0; j < kParts; ++j) {
      const int d = 32 * j + lane;
      z[j] = d < kDim ? Sanitize(rotation != nullptr ? scratch[d] : x[d]) : 0.0f;
    }
    SyncWarp();
    if (s.rows) return EncodeRow(s, page, token, z);
    float absmax = 0;
#pragma unroll
    for (int j = 0; j < kParts; ++j) {
      const int d = 32 * j + lane;
      if (s.side == Side::kKey && d < kDim) {
        z[j] = SubRn(z[j], ReadHalf(page + p.open.reference_offset + 2 * d));
      }
      absmax = Max(absmax, Abs(z[j]));
    }
    const uint16_t stored = ScaleOf8(WarpMax(absmax));
    const float scale = HalfLow(stored);
#pragma unroll
    for (int j = 0; j < kParts; ++j) {
      const int d = 32 * j + lane;
      if (d < kDim) page[ByteOf8(s, token, d)] = static_cast<std::byte>(CodeOf8(z[j], scale));
    }
    if (lane == 0) WriteScale(s, other_in_rows, page, token, stored);
  }

  TQ_DEVICE void EncodeRow(const TileSide& s, std::byte* page, int token,
                           const float (&z)[kParts]) const {
    const int lane = LaneId();
    std::byte* row = page + s.rows_offset + static_cast<uint32_t>(token) * s.row_bytes;
#pragma unroll
    for (int j = 0; j < kParts; ++j) {
      const int d = 32 * j + lane;
      if (s.codec == Codec::kF16) {
        if (d < kDim) StoreHalf(row + 2 * d, FiniteHalf(z[j]));
      } else {  // q8_0: a block of 32 is the warp
        const uint16_t stored = ScaleOf8(WarpMax(Abs(z[j])));
        if (d < kDim) {
          if (lane == 0) StoreHalf(row + j * 34, stored);
          row[j * 34 + 2 + lane] = static_cast<std::byte>(CodeOf8(z[j], HalfLow(stored)));
        }
      }
    }
  }

  // Tokens of the step that fall into `page`.
  TQ_DEVICE void EncodePage(Side side, int page, int first, int count) const {
    const bool keys = side == Side::kKey;
    const TileSide& s = keys ? p.open.k : p.open.v;
    const bool other_in_rows = keys ? p.open.v.rows : p.open.k.rows;
    const RotationTable* rotation =
        keys ? (p.rotate_k ? &p.k_rotation : nullptr) : (p.rotate_v ? &p.v_rotation : nullptr);
    float* x = keys ? p.k : p.v;
    const int64_t stride = keys ? p.k_stride : p.v_stride;
    float* scratch = reinterpret_cast<float*>(SharedMemory()) + WarpId() * kDim;
    const int begin = page * kPageTokens > first ? page * kPageTokens : first;
    const int end =
        (page + 1) * kPageTokens < first + count ? (page + 1) * kPageTokens : first + count;
    for (int position = begin + WarpId(); position < end; position += Threads() / 32) {
      const int64_t row = p.tables.first_rows[slot] + position - first;
      EncodeToken(s, other_in_rows, Open(page), position % kPageTokens,
                  x + row * stride + head * kDim, rotation, scratch);
    }
  }
};

template <int kDim>
TQ_KERNEL(kPageThreads, 1)
EncodeKernel(const TQ_GRID_CONSTANT EncodeParams p) {
  LetNextStart();
  WaitForInputs();
  const int parts = 1 + p.pages;
  const int part = BlockId() % parts;
  const int head = BlockId() / parts % p.kv_heads;
  const int slot = BlockId() / parts / p.kv_heads;
  const int count = p.tables.tokens[slot];
  if (count == 0) return;
  const int first = p.tables.first_positions[slot];
  const int first_page = first / kPageTokens, last_page = (first + count - 1) / kPageTokens;
  const Encoder<kDim> encoder = {p, slot, head};
  if (part > 0) {
    const int page = first_page + part - 1;
    if (page <= last_page) encoder.EncodePage(Side::kValue, page, first, count);
    return;
  }
  for (int page = first_page; page <= last_page; ++page) {
    if (!p.open.k.rows && page * kPageTokens >= first) encoder.OpenPage(page);
    SyncThreads();
    encoder.EncodePage(Side::kKey, page, first, count);
    SyncThreads();
  }
}

}  // namespace

EncodeKernelFn EncodeKernelOf(int head_dim) {
  return ForHeadDim<EncodeKernelFn>(
      head_dim, []<int kDim>() -> EncodeKernelFn { return EncodeKernel<kDim>; });
}

}  // namespace tq::cuda
