// SPDX-License-Identifier: Apache-2.0
// One slot and head of a step's new tokens on their way into open pages, with the bytes of
// PageCodec: rotation, reference vector, scale, codes.
#pragma once

#include "turboquant/codec/cuda/page_ops.cuh"
#include "turboquant/codec/cuda/rotation.cuh"
#include "turboquant/kv/cuda/page_params.h"

namespace tq::cuda {

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
        if (p.tables.PagesOf(kOpenForm, slot)[page - 1] != kNoPage) {
          r = MeanKey8(FixedSide<kDim, Side::kKey>(p.open), Open(page - 1), p.open.reference_offset,
                       dim);
        } else {
          int form = kSealedForm;
          while (form < kSealedForm + p.num_aged &&
                 p.tables.PagesOf(form, slot)[page - 1] == kNoPage) {
            ++form;
          }
          const PageSides& sides = p.Sealed(form);
          const std::byte* sealed = p.arena + p.tables.PagesOf(form, slot)[page - 1] * kPageIdUnit +
                                    sides.layer_offset +
                                    static_cast<uint64_t>(head) * sides.head_bytes;
          r = sides.k.codec == p.open.k.codec ? MeanKey8(FixedSide<kDim, Side::kKey>(sides), sealed,
                                                         sides.reference_offset, dim)
                                              : ReadHalf(sealed + sides.reference_offset + 2 * dim);
        }
      }
      StoreHalf(to + p.open.reference_offset + 2 * dim, FiniteHalf(Sanitize(r)));
    }
    WriteReferencePadding(p.open.k, to, p.open.reference_offset, p.open.tiles_offset);
  }

  // x in place, by one warp; scratch [kDim] in shared memory keeps the result.
  TQ_DEVICE void Rotate(const RotationTable& rotation, float* x, float* scratch) const {
    const int lane = LaneId();
    for (int d = lane; d < kDim; d += 32) scratch[d] = x[d];
    SyncWarp();
    RotateRow<kDim>(rotation, scratch, lane);
    for (int d = lane; d < kDim; d += 32) x[d] = scratch[d];
  }

  // One token by one warp. x: its floats, rotated in place if asked.
  TQ_DEVICE void EncodeToken(const TileSide& s, bool other_in_rows, std::byte* page, int token,
                             float* x, const RotationTable* rotation, float* scratch) const {
    const int lane = LaneId();
    if (rotation != nullptr) Rotate(*rotation, x, scratch);
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
    const Coder8 coder(HalfLow(stored));
#pragma unroll
    for (int j = 0; j < kParts; ++j) {
      const int d = 32 * j + lane;
      if (d < kDim) page[ByteOf8(s, token, d)] = static_cast<std::byte>(coder.Code(z[j]));
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
          row[j * 34 + 2 + lane] = static_cast<std::byte>(Coder8(HalfLow(stored)).Code(z[j]));
        }
      }
    }
  }

  // fn(row of k and v, position) for the step's tokens in a slice of `page`, a warp each.
  template <typename Fn>
  TQ_DEVICE void ForTokens(int page, int slice, int slices, int first, int count, Fn&& fn) const {
    const int tokens = kPageTokens / slices;
    const int from = page * kPageTokens + slice * tokens;
    const int begin = from > first ? from : first;
    const int end = from + tokens < first + count ? from + tokens : first + count;
    for (int position = begin + WarpId(); position < end; position += Threads() / 32) {
      fn(p.tables.first_rows[slot] + position - first, position);
    }
  }
  TQ_DEVICE float* Scratch() const {
    return reinterpret_cast<float*>(SharedMemory()) + WarpId() * kDim;
  }
  TQ_DEVICE float* Row(Side side, int64_t row) const {
    return (side == Side::kKey ? p.k + row * p.k_stride : p.v + row * p.v_stride) + head * kDim;
  }
  TQ_DEVICE const RotationTable* RotationOf(Side side) const {
    if (side == Side::kKey) return p.rotate_k ? &p.k_rotation : nullptr;
    return p.rotate_v ? &p.v_rotation : nullptr;
  }

  template <Side kSide>
  TQ_DEVICE void EncodePage(int page, int slice, int slices, int first, int count) const {
    const TileSide side = FixedSide<kDim, kSide>(p.open);
    const bool other_in_rows = kSide == Side::kKey ? p.open.v.rows : p.open.k.rows;
    ForTokens(page, slice, slices, first, count, [&](int64_t row, int position) {
      EncodeToken(side, other_in_rows, Open(page), position % kPageTokens, Row(kSide, row),
                  RotationOf(kSide), Scratch());
    });
  }
  TQ_DEVICE float* KeptKeys(int64_t row) const {
    return p.kept_keys + (row * p.kv_heads + head) * kDim;
  }
  // Into the stored basis, and a copy that outlives the step's buffers.
  TQ_DEVICE void KeepKeys(int page, int slice, int slices, int first, int count) const {
    ForTokens(page, slice, slices, first, count, [&](int64_t row, int) {
      float* x = Row(Side::kKey, row);
      if (p.rotate_k) Rotate(p.k_rotation, x, Scratch());
      for (int d = LaneId(); d < kDim; d += 32) KeptKeys(row)[d] = x[d];
      SyncWarp();
    });
  }
};

}  // namespace tq::cuda
