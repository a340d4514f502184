// SPDX-License-Identifier: Apache-2.0
// Ranges of pages to f16, for prefill. A block per page side: units to values in shared memory,
// then whole rows to the output.
#include "turboquant/codec/cuda/head_dims.h"
#include "turboquant/codec/cuda/page_ops.cuh"
#include "turboquant/codec/cuda/tile_codecs.cuh"
#include "turboquant/codec/cuda/tile_places.h"
#include "turboquant/kv/cuda/page_params.h"

namespace tq::cuda {
namespace {

template <class C>
TQ_DEVICE float LevelOf(uint32_t byte) {
  if (C::kKind == LevelKind::kUnsigned)
    return static_cast<float>(static_cast<int>(byte & 255u) - 128);
  return static_cast<float>(static_cast<int8_t>(byte)) +
         (C::kKind == LevelKind::kSignedHalf ? 0.5f : 0.0f);
}

template <int kDim>
struct Dequantizer {
  TileSide s;
  const std::byte* head;
  uint32_t reference_offset;

  TQ_DEVICE uint16_t* Values() const { return reinterpret_cast<uint16_t*>(SharedMemory()); }

  template <class C>
  TQ_DEVICE void Tiles() const {
    constexpr TileLayout kTile = MakeTileLayout(kDim);
    const bool keys = s.side == Side::kKey;
    LevelTables tables;
#pragma unroll
    for (int i = 0; i < C::kTables; ++i) tables.t[i] = LevelTableWordAt(C::kTable + i);
    for (int i = ThreadId(); i < kTile.tiles_per_page() * 32 * kTile.units; i += Threads()) {
      CodePlace place = {i / (32 * kTile.units), i % 32, i / 32 % kTile.units, 0};
      uint32_t words[C::kWords], levels[8];
#pragma unroll
      for (int w = 0; w < C::kWords; ++w) {
        words[w] = *reinterpret_cast<const uint32_t*>(
            head + s.CodesOffset(place.tile) +
            WordOffset(kTile, C::kWords, place.lane, place.unit, w));
      }
      C::Unpack(words, levels, tables);
#pragma unroll
      for (int n = 0; n < kUnitCodes; ++n) {
        place.index = n;
        const TokenDim at = keys ? KeyAt(kTile, place) : ValueAt(kTile, place);
        const float level = LevelOf<C>(levels[n / 4] >> (8 * (n % 4)));
        float value = MulRn(level, ReadHalf(head + s.ScaleOffset(at.token)));
        if (keys) value = AddRn(value, ReadHalf(head + reference_offset + 2 * at.dim));
        Values()[at.token * kDim + at.dim] = FiniteHalf(value);
      }
    }
  }

  TQ_DEVICE void Rows() const {
    for (int i = ThreadId(); i < kPageTokens * kDim; i += Threads()) {
      const int token = i / kDim, dim = i % kDim;
      const std::byte* row = head + s.rows_offset + static_cast<uint32_t>(token) * s.row_bytes;
      if (s.codec == Codec::kF16) {
        Values()[i] = LoadHalf(row + 2 * dim);
      } else {
        const std::byte* block = row + dim / 32 * 34;
        const int code = static_cast<int8_t>(block[2 + dim % 32]);
        Values()[i] = FiniteHalf(MulRn(static_cast<float>(code), ReadHalf(block)));
      }
    }
  }

  TQ_DEVICE void Run() const {
    if (s.rows) return Rows();
    WithTileCodec(s.codec, [&](auto codec) { Tiles<decltype(codec)>(); });
  }
};

template <int kDim>
TQ_KERNEL(kPageThreads, 1)
DequantizeKernel(const TQ_GRID_CONSTANT DequantizeParams p) {
  const bool keys = BlockId() % 2 == 0;
  const int head = BlockId() / 2 % p.kv_heads;
  const auto page = static_cast<int>(p.first / kPageTokens) + BlockId() / 2 / p.kv_heads;
  Visibility visibility = p.visibility;
  if (p.tables.sealed_below != nullptr) visibility.sealed_below = p.tables.sealed_below[p.slot];
  const bool is_sealed = visibility.Sealed(page, p.position);
  const PageSides& form = is_sealed ? p.sealed : p.open;
  const uint32_t* ids = is_sealed ? p.tables.sealed_pages : p.tables.open_pages;
  const std::byte* block =
      p.arena + ids[static_cast<int64_t>(p.slot) * p.tables.page_stride + page] * kPageIdUnit +
      form.layer_offset + static_cast<uint64_t>(head) * form.head_bytes;
  TileSide side = keys ? form.k : form.v;
  side.tile = MakeTileLayout(kDim);  // known when compiled: no divisions
  const Dequantizer<kDim> dequantizer = {side, block, form.reference_offset};
  dequantizer.Run();
  SyncThreads();
  // Rows of the range; two dims at a time.
  const int64_t begin = static_cast<int64_t>(page) * kPageTokens;
  uint16_t* out = keys ? p.k : p.v;
  for (int i = ThreadId(); i < kPageTokens * kDim / 2; i += Threads()) {
    const int64_t row = begin + i / (kDim / 2) - p.first;
    if (row < 0 || row >= p.count) continue;
    reinterpret_cast<uint32_t*>(out + (row * p.kv_heads + head) * kDim)[i % (kDim / 2)] =
        reinterpret_cast<const uint32_t*>(dequantizer.Values())[i];
  }
}

}  // namespace

DequantizeKernelFn DequantizeKernelOf(int head_dim) {
  return ForHeadDim<DequantizeKernelFn>(
      head_dim, []<int kDim>() -> DequantizeKernelFn { return DequantizeKernel<kDim>; });
}

}  // namespace tq::cuda
