// SPDX-License-Identifier: Apache-2.0
// One slot and head of a step's new tokens on their way into open pages, with the bytes of
// PageCodec: rotation, reference vector, scale, codes.
#pragma once

#include "turboquant/codec/cuda/page_ops.cuh"
#include "turboquant/codec/cuda/quad_rotation.cuh"
#include "turboquant/kv/cuda/page_params.h"

namespace tq::cuda {

template <int kDim>
struct Encoder {
  static constexpr int kQuads = QuadPlace<kDim>::kQuads;  // of a lane, of a token

  const EncodeParams& p;
  int slot, head;

  TQ_DEVICE std::byte* Open(int page) const {
    const uint32_t id =
        p.tables.open_pages[static_cast<int64_t>(slot) * p.tables.page_stride + page];
    return p.arena + id * kPageIdUnit + p.open.layer_offset +
           static_cast<uint64_t>(head) * p.open.head_bytes;
  }

  // Fixes the reference vector of a page whose first token is about to come; by all threads that
  // say which one they are.
  TQ_DEVICE void OpenPage(int page, int thread = ThreadId(), int threads = Threads()) const {
    std::byte* to = Open(page);
    for (int dim = thread; dim < kDim; dim += threads) {
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
    WriteReferencePadding(p.open.k, to, p.open.reference_offset, p.open.tiles_offset, thread,
                          threads);
  }

  // fn(i, d) for the quads that the lane has of a token: dims d .. d + 3.
  template <typename Fn>
  TQ_DEVICE static void ForQuads(Fn&& fn) {
    const auto place = QuadPlace<kDim>::Alone();
#pragma unroll
    for (int i = 0; i < kQuads; ++i) {
      if (place.Has(i)) fn(i, place.Dim(i));
    }
  }

  // One token by one warp. x: its floats, rotated in place if asked.
  TQ_DEVICE void EncodeToken(const TileSide& s, bool other_in_rows, std::byte* page, int token,
                             float* x, const RotationTable* rotation) const {
    Quads z = Load(x, rotation);
    if (s.rows) return EncodeRow(s, page, token, z);
    const Coder8 coder = CoderOf(s, other_in_rows, page, token, z);
    ForQuads([&](int i, int d) {
      const uint32_t codes = coder.Codes(z.v[i]);
      if (s.side == Side::kKey) {  // neighbouring dims of a key lie beside each other (PlaceOfKey)
        *reinterpret_cast<uint32_t*>(page + ByteOf8(s, token, d)) = codes;
      } else {
#pragma unroll
        for (int n = 0; n < 4; ++n)
          page[ByteOf8(s, token, d + n)] = static_cast<std::byte>(codes >> 8 * n);
      }
    });
  }

  // Tokens token, token + 8, token + 1, token + 9 of values lie beside each other (PlaceOfValue).
  TQ_DEVICE void EncodeValues(const TileSide& s, bool other_in_rows, std::byte* page, int token,
                              float* (&rows)[4], const RotationTable* rotation) const {
    Quads z[4];
    uint32_t codes[4][kQuads];
#pragma unroll
    for (int n = 0; n < 4; ++n) z[n] = Load(rows[n], rotation);
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const Coder8 coder = CoderOf(s, other_in_rows, page, token + n % 2 * 8 + n / 2, z[n]);
#pragma unroll
      for (int i = 0; i < kQuads; ++i) codes[n][i] = coder.Codes(z[n].v[i]);
    }
    ForQuads([&](int i, int d) {
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        const uint32_t byte = static_cast<uint32_t>(n) * 0x11 + 0x40;
        *reinterpret_cast<uint32_t*>(page + ByteOf8(s, token, d + n)) = Prmt(
            Prmt(codes[0][i], codes[1][i], byte), Prmt(codes[2][i], codes[3][i], byte), 0x5410);
      }
    });
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
    const int slice_first = page * kPageTokens + slice * kSliceTokens;
    if (kSide == Side::kValue && slices == kEncodeSlices && !side.rows && slice_first >= first &&
        slice_first + kSliceTokens <= first + count) {
      const int token = WarpId() / 4 * 16 + WarpId() % 4 * 2;  // of the slice
      float* rows[4];
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        const int position = slice_first + token + n % 2 * 8 + n / 2;
        rows[n] = Row(kSide, p.tables.first_rows[slot] + position - first);
      }
      return EncodeValues(side, other_in_rows, Open(page), slice * kSliceTokens + token, rows,
                          RotationOf(kSide));
    }
    ForTokens(page, slice, slices, first, count, [&](int64_t row, int position) {
      EncodeToken(side, other_in_rows, Open(page), position % kPageTokens, Row(kSide, row),
                  RotationOf(kSide));
    });
  }
  TQ_DEVICE float* KeptKeys(int64_t row) const {
    return p.kept_keys + (row * p.kv_heads + head) * kDim;
  }
  // Into the stored basis, and a copy that outlives the step's buffers, without NaN and infinity.
  TQ_DEVICE void KeepKeys(int page, int slice, int slices, int first, int count) const {
    ForTokens(page, slice, slices, first, count, [&](int64_t row, int) {
      const Quads z = Load(Row(Side::kKey, row), RotationOf(Side::kKey));
      ForQuads([&](int i, int d) { *reinterpret_cast<float4*>(KeptKeys(row) + d) = z.v[i]; });
    });
  }

 private:
  static constexpr int kSliceTokens = kPageTokens / kEncodeSlices;
  // EncodeValues: a warp's four tokens, eight warps' slice.
  static_assert(kSliceTokens == 32 && kPageThreads == 8 * 32);
  struct Quads {
    float4 v[kQuads];  // zeros where the lane has none
  };

  // A token's floats, finite; rotated, and left so, if asked.
  TQ_DEVICE Quads Load(float* x, const RotationTable* rotation) const {
    Quads z;
#pragma unroll
    for (int i = 0; i < kQuads; ++i) z.v[i] = {0, 0, 0, 0};
    ForQuads([&](int i, int d) { z.v[i] = *reinterpret_cast<const float4*>(x + d); });
    if (rotation != nullptr) {
      RotateQuads(*rotation, QuadPlace<kDim>::Alone(), z.v);
      ForQuads([&](int i, int d) { *reinterpret_cast<float4*>(x + d) = z.v[i]; });
    }
    ForQuads([&](int i, int) { z.v[i] = Sanitize(z.v[i]); });
    return z;
  }

  // Takes the reference from a key, writes the scale.
  TQ_DEVICE Coder8 CoderOf(const TileSide& s, bool other_in_rows, std::byte* page, int token,
                           Quads& z) const {
    float absmax = 0;
    ForQuads([&](int i, int d) {
      if (s.side == Side::kKey) {
        const auto* r = reinterpret_cast<const uint2*>(page + p.open.reference_offset + 2 * d);
        z.v[i] = SubQuads(z.v[i], {HalfLow(r->x), HalfHigh(r->x), HalfLow(r->y), HalfHigh(r->y)});
      }
      absmax = Max(absmax, AbsMax(z.v[i]));
    });
    const uint16_t stored = ScaleOf8(WarpMax(absmax));
    if (LaneId() == 0) WriteScale(s, other_in_rows, page, token, stored);
    return Coder8(HalfLow(stored));
  }

  TQ_DEVICE void EncodeRow(const TileSide& s, std::byte* page, int token, const Quads& z) const {
    std::byte* row = page + s.rows_offset + static_cast<uint32_t>(token) * s.row_bytes;
    if (s.codec == Codec::kF16) {
      return ForQuads([&](int i, int d) {
        *reinterpret_cast<uint2*>(row + 2 * d) = {FiniteHalves(z.v[i].x, z.v[i].y),
                                                  FiniteHalves(z.v[i].z, z.v[i].w)};
      });
    }
    const auto place = QuadPlace<kDim>::Alone();
#pragma unroll
    for (int i = 0; i < kQuads; ++i) {  // q8_0: a block of 32 is 8 lanes
      float absmax = place.Has(i) ? AbsMax(z.v[i]) : 0.0f;
#pragma unroll
      for (int mask = 4; mask > 0; mask /= 2) absmax = Max(absmax, ShuffleXor(absmax, mask));
      if (!place.Has(i)) continue;
      const int d = place.Dim(i);
      std::byte* block = row + d / 32 * 34;
      const uint16_t stored = ScaleOf8(absmax);
      if (d % 32 == 0) StoreHalf(block, stored);
      const uint32_t codes = Coder8(HalfLow(stored)).Codes(z.v[i]);
      StoreHalf(block + 2 + d % 32, static_cast<uint16_t>(codes));
      StoreHalf(block + 4 + d % 32, static_cast<uint16_t>(codes >> 16));
    }
  }
};

}  // namespace tq::cuda
