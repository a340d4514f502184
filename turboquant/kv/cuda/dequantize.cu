// SPDX-License-Identifier: Apache-2.0
// Ranges of pages to f16, for prefill. A block per page side of a head: units to values in shared
// memory, four codes at a time, then whole rows to the output.
#include "turboquant/codec/cuda/head_dims.h"
#include "turboquant/codec/cuda/page_ops.cuh"
#include "turboquant/codec/cuda/tile_codecs.cuh"
#include "turboquant/kv/cuda/page_params.h"

namespace tq::cuda {
namespace {

struct alignas(8) Halves4 {
  uint32_t pairs[2];
};
struct alignas(16) Halves8 {
  uint32_t pairs[4];
};

// Byte n of a codec's level bytes as a float, exactly: put into a mantissa, not converted.
template <class C>
TQ_DEVICE float LevelOf(uint32_t bytes, int n) {
  constexpr bool kSigned = C::kKind != LevelKind::kUnsigned;
  const uint32_t from_0 = kSigned ? bytes ^ 0x80808080u : bytes;
  const uint32_t selector = 0x7540u + static_cast<uint32_t>(n);
  const float level = SubRn(BitsToFloat(Prmt(from_0, 0x4b000000u, selector)), 8388736.0f);
  return C::kKind == LevelKind::kSignedHalf ? AddRn(level, 0.5f) : level;
}

template <int kDim>
struct Dequantizer {
  static constexpr int kTileTokens = MakeTileLayout(kDim).tokens;
  static constexpr int kLaneDims = kDim / 4;  // of a lane's keys
  static constexpr DequantizeMemory kMemory = MakeDequantizeMemory(kDim);
  static constexpr int kRow = kMemory.row_halves;

  TileSide s;
  const std::byte* head;
  uint32_t reference_offset;

  TQ_DEVICE uint16_t* Row(int token) const {
    return reinterpret_cast<uint16_t*>(SharedMemory()) + token * kRow;
  }
  TQ_DEVICE float* Scales() const {
    return reinterpret_cast<float*>(SharedMemory() + kMemory.scales);
  }
  // Of the lanes that hold quarter t of the dims: padded, so that the quarters differ in banks.
  TQ_DEVICE float* Reference(int t) const {
    return reinterpret_cast<float*>(SharedMemory() + kMemory.reference) + t * (kLaneDims + 8);
  }

  // What all units of the side share.
  TQ_DEVICE void Prepare() const {
    for (int i = ThreadId(); i < kPageTokens; i += Threads())
      Scales()[i] = ReadHalf(head + s.ScaleOffset(i));
    if (s.side == Side::kValue) return;
    for (int i = ThreadId(); i < kDim; i += Threads())
      Reference(i / kLaneDims)[i % kLaneDims] = ReadHalf(head + reference_offset + 2 * i);
  }

  // Calls fn(tile, unit, lane, level bytes) for this thread's units; all lanes of a warp make the
  // same calls.
  template <class C, class Fn>
  TQ_DEVICE void ForUnits(Fn&& fn) const {
    constexpr TileLayout kTile = MakeTileLayout(kDim);  // a member has no address on a device
    LevelTables tables;
#pragma unroll
    for (int i = 0; i < C::kTables; ++i) tables.t[i] = LevelTableWordAt(C::kTable + i);
    for (int i = ThreadId(); i < kTile.tiles_per_page() * 32 * kTile.units; i += Threads()) {
      const int tile = i / (32 * kTile.units), unit = i / 32 % kTile.units;
      const std::byte* codes = head + s.CodesOffset(tile);
      uint32_t words[C::kWords], levels[8];
#pragma unroll
      for (int w = 0; w < C::kWords; ++w) {
        words[w] = *reinterpret_cast<const uint32_t*>(
            codes + WordOffset(kTile, C::kWords, LaneId(), unit, w));
      }
      C::Unpack(words, levels, tables);
      fn(tile, unit, levels);
    }
  }

  // Four codes are neighbouring dims of one token (PlaceOfKey).
  template <class C>
  TQ_DEVICE void Keys() const {
    const int g = LaneId() / 4, t = LaneId() % 4;
    ForUnits<C>([&](int tile, int unit, const uint32_t(&levels)[8]) {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const int position = unit * kUnitCodes + 4 * i, dim = position % kLaneDims;
        const int token = tile * kTileTokens + position / kLaneDims * 8 + g;
        const float scale = Scales()[token];
        const float* reference = Reference(t) + dim;
        float x[4];  // products are exact, so a sum is rounded once, as the format asks
#pragma unroll
        for (int n = 0; n < 4; ++n)
          x[n] = FusedMulAdd(LevelOf<C>(levels[i], n), scale, reference[n]);
        *reinterpret_cast<Halves4*>(Row(token) + t * kLaneDims +
                                    dim) = {{FiniteHalves(x[0], x[1]), FiniteHalves(x[2], x[3])}};
      }
    });
  }

  // Four codes are tokens 2t, 2t + 8, 2t + 1, 2t + 9 of one dim (PlaceOfValue): eight lanes'
  // columns, transposed into rows.
  template <class C>
  TQ_DEVICE void Values() const {
    constexpr int kHalves = kTileTokens / 32;
    const int g = LaneId() / 4, t = LaneId() % 4;
    ForUnits<C>([&](int tile, int unit, const uint32_t(&levels)[8]) {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const int m_tile = unit * 2 + i / 4, e = i % 4;
        const int token = tile * kTileTokens + m_tile % kHalves * 32 + e / 2 * 16;
        const int dim = m_tile / kHalves * 16 + e % 2 * 8;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const float* scales = Scales() + token + 8 * half + 2 * t;
          const uint32_t column = FiniteHalves(MulRn(LevelOf<C>(levels[i], half), scales[0]),
                                               MulRn(LevelOf<C>(levels[i], 2 + half), scales[1]));
          *reinterpret_cast<uint32_t*>(Row(token + 8 * half + g) + dim + 2 * t) =
              Transpose8x8(column);
        }
      }
    });
  }

  TQ_DEVICE void Rows() const {
    for (int i = ThreadId(); i < kPageTokens * kDim / 8; i += Threads()) {
      const int token = i / (kDim / 8), dim = i % (kDim / 8) * 8;
      const std::byte* row = head + s.rows_offset + static_cast<uint32_t>(token) * s.row_bytes;
      uint16_t* to = Row(token) + dim;
      if (s.codec == Codec::kF16) {
        *reinterpret_cast<Halves8*>(to) = *reinterpret_cast<const Halves8*>(row + 2 * dim);
        continue;
      }
      const std::byte* block = row + dim / 32 * 34;
      const float scale = ReadHalf(block);
#pragma unroll
      for (int n = 0; n < 8; ++n) {
        const int code = static_cast<int8_t>(block[2 + dim % 32 + n]);
        to[n] = FiniteHalf(MulRn(static_cast<float>(code), scale));
      }
    }
  }

  TQ_DEVICE void Run() const {
    if (s.rows) return Rows();
    Prepare();
    SyncThreads();
    WithTileCodec(s.codec, [&](auto codec) {
      using C = decltype(codec);
      s.side == Side::kKey ? Keys<C>() : Values<C>();
    });
  }
};

template <int kDim>
TQ_KERNEL(kPageThreads, 1)
DequantizeKernel(const TQ_GRID_CONSTANT DequantizeParams p) {
  LetNextStart();
  WaitForInputs();
  const bool keys = BlockId() % 2 == 0;
  const int head = BlockId() / 2 % p.kv_heads;
  const auto page = static_cast<int>(p.first / kPageTokens) + BlockId() / 2 / p.kv_heads;
  const int form =
      EndsOf(p.tables, p.visibility, p.ages, p.slot).FormAt(page, static_cast<int>(p.position));
  const PageSides& sides = form == kOpenForm     ? p.open
                           : form == kSealedForm ? p.sealed
                                                 : p.aged[form - kSealedForm - 1];
  const std::byte* block = p.arena + p.tables.PagesOf(form, p.slot)[page] * kPageIdUnit +
                           sides.layer_offset + static_cast<uint64_t>(head) * sides.head_bytes;
  TileSide side = keys ? sides.k : sides.v;
  side.tile = MakeTileLayout(kDim);  // known when compiled: no divisions
  const Dequantizer<kDim> dequantizer = {side, block, sides.reference_offset};
  dequantizer.Run();
  SyncThreads();
  const int64_t begin = static_cast<int64_t>(page) * kPageTokens;
  uint16_t* out = keys ? p.k : p.v;
  for (int i = ThreadId(); i < kPageTokens * kDim / 8; i += Threads()) {
    const int token = i / (kDim / 8), dim = i % (kDim / 8) * 8;
    const int64_t row = begin + token - p.first;
    if (row < 0 || row >= p.count) continue;
    *reinterpret_cast<Halves8*>(out + (row * p.kv_heads + head) * kDim + dim) =
        *reinterpret_cast<const Halves8*>(dequantizer.Row(token) + dim);
  }
}

}  // namespace

DequantizeKernelFn DequantizeKernelOf(int head_dim) {
  return ForHeadDim<DequantizeKernelFn>(
      head_dim, []<int kDim>() -> DequantizeKernelFn { return DequantizeKernel<kDim>; });
}

}  // namespace tq::cuda
