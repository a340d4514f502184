// SPDX-License-Identifier: Apache-2.0
// Whole pages to the next form, open ones to sealed, sealed ones to fewer bits, with the bytes of
// PageCodec::SealKeys and SealValues. A block per page side, whose levels are unpacked to shared
// memory and become codes there, then words of units.
#include "turboquant/codec/cuda/head_dims.h"
#include "turboquant/codec/cuda/page_ops.cuh"
#include "turboquant/codec/cuda/tile_places.h"
#include "turboquant/kv/cuda/page_params.h"
#include "turboquant/kv/cuda/sealed_levels.cuh"

namespace tq::cuda {
namespace {

template <int kDim, Side kSide>
struct Sealer {
  static constexpr SealMemory kMemory = MakeSealMemory(kDim);
  static constexpr bool kKeys = kSide == Side::kKey;

  const SealParams& p;
  TileSide from, to;
  const std::byte* open;
  const std::byte* behind;  // or null
  std::byte* sealed;

  TQ_DEVICE Sealer(const SealParams& params, const SealJob& job)
      : p(params),
        from(FixedSide<kDim, kSide>(params.open)),
        to(FixedSide<kDim, kSide>(params.sealed)),
        open(params.arena + job.open_offset),
        behind(PageBehind(params, job)),
        sealed(params.arena + job.sealed_offset) {}

  // Shared memory: levels, and codes in their place, by rows that differ in banks, then floats.
  TQ_DEVICE int8_t* Row(int token) const {
    return reinterpret_cast<int8_t*>(SharedMemory()) + token * kMemory.row_bytes;
  }
  TQ_DEVICE float* Floats(int offset) const {
    return reinterpret_cast<float*>(SharedMemory() + offset);
  }
  TQ_DEVICE float* Scales() const { return Floats(kMemory.scales); }
  TQ_DEVICE float* Norms() const { return Floats(kMemory.norms); }
  TQ_DEVICE float* Gains() const { return Floats(kMemory.gains); }
  TQ_DEVICE float* OldReference() const { return Floats(kMemory.old_reference); }
  TQ_DEVICE float* Reference() const { return Floats(kMemory.reference); }
  TQ_DEVICE bool OtherInRows() const { return kKeys ? p.sealed.v.rows : p.sealed.k.rows; }

  TQ_DEVICE void CopyWords(std::byte* dst, const std::byte* src, uint32_t bytes) const {
    for (uint32_t i = static_cast<uint32_t>(ThreadId()) * 4; i < bytes;
         i += static_cast<uint32_t>(Threads()) * 4) {
      *reinterpret_cast<uint32_t*>(dst + i) = *reinterpret_cast<const uint32_t*>(src + i);
    }
  }

  // Same codec: the bytes themselves.
  TQ_DEVICE void Copy() const {
    if (from.rows) {
      CopyWords(sealed + to.rows_offset, open + from.rows_offset, from.row_bytes * kPageTokens);
      return;
    }
    for (int tile = 0; tile < from.tile.tiles_per_page(); ++tile) {
      CopyWords(sealed + to.CodesOffset(tile), open + from.CodesOffset(tile),
                static_cast<uint32_t>(from.tile.side_bytes(from.bits)));
    }
    for (int token = ThreadId(); token < kPageTokens; token += Threads()) {
      WriteScale(to, OtherInRows(), sealed, token, LoadHalf(open + from.ScaleOffset(token)));
    }
    if (kKeys) CopyReference();
  }

  TQ_DEVICE void CopyReference() const {
    CopyWords(sealed + p.sealed.reference_offset, open + p.open.reference_offset,
              p.open.tiles_offset - p.open.reference_offset);
  }

  TQ_DEVICE void Load() const {
    UnpackLevels(from, open, 0, from.tile.tiles_per_page(), Row(0), kMemory.row_bytes);
    for (int token = ThreadId(); token < kPageTokens; token += Threads()) {
      Scales()[token] = ReadHalf(open + from.ScaleOffset(token));
    }
    if (!kKeys) return;
    for (int dim = ThreadId(); dim < kDim; dim += Threads()) {
      OldReference()[dim] = ReadHalf(open + p.open.reference_offset + 2 * dim);
    }
  }

  // Of the page's keys, as MeanKey8 adds.
  TQ_DEVICE uint16_t Mean(int dim) const {
    float sum = 0;
#pragma unroll 16
    for (int token = 0; token < kPageTokens; ++token) {
      const float value = MulRn(SmallToFloat(Row(token)[dim]), Scales()[token]);
      sum = AddRn(sum, AddRn(value, OldReference()[dim]));
    }
    return FiniteHalf(Sanitize(MulRn(sum, 1.0f / kPageTokens)));
  }

  // The mean of the page's keys; it stays when they are sealed again.
  TQ_DEVICE void SealReference() const {
    if (from.bits != 8) {
      for (int dim = ThreadId(); dim < kDim; dim += Threads()) {
        Reference()[dim] = OldReference()[dim];
      }
      return CopyReference();
    }
    for (int dim = ThreadId(); dim < kDim; dim += Threads()) {
      const uint16_t r =
          behind != nullptr ? LoadHalf(behind + p.open.reference_offset + 2 * dim) : Mean(dim);
      StoreHalf(sealed + p.sealed.reference_offset + 2 * dim, r);
      Reference()[dim] = HalfLow(r);
    }
    WriteReferencePadding(to, sealed, p.sealed.reference_offset, p.sealed.tiles_offset);
  }

  // A decoded value, of a key minus the new reference.
  TQ_DEVICE float Decoded(int8_t level, int token, int dim) const {
    const float x = ValueOfLevel(level, LevelRest(from), Scales()[token]);
    return kKeys ? SubRn(AddRn(x, OldReference()[dim]), Reference()[dim]) : x;
  }

  // 16 strided sums, then a tree: the order that the format fixes. By half a warp.
  TQ_DEVICE float SumOfSquares(int token) const {
    float sum = 0;
#pragma unroll 8
    for (int d = LaneId() & 15; d < kDim; d += 16) {
      const float x = Decoded(Row(token)[d], token, d);
      sum = AddRn(sum, MulRn(x, x));
    }
#pragma unroll
    for (int width = 8; width > 0; width /= 2) sum = AddRn(sum, ShuffleXor(sum, width));
    return sum;
  }

  // A token's levels to codes, four neighbouring dims a lane; the sum of (2 level)^2 of the codes.
  TQ_DEVICE int Quantize(const Codebook& book, int token) const {
    const float gain = Gains()[token];
    int squares = 0;
#pragma unroll
    for (int first = 0; first < kDim; first += 128) {
      const int dim = first + 4 * LaneId();
      if (dim >= kDim) break;
      auto* word = reinterpret_cast<uint32_t*>(Row(token) + dim);
      const uint32_t levels = *word;
      uint32_t codes = 0;
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        const auto level = static_cast<int8_t>(levels >> 8 * n);
        const float y = MulRn(Decoded(level, token, dim + n), gain);
        int magnitude = 0;
#pragma unroll
        for (int i = 0; i < 7; ++i) {
          if (i + 1 < book.magnitudes && Abs(y) > book.thresholds[static_cast<size_t>(i)]) {
            ++magnitude;
          }
        }
        codes |= static_cast<uint32_t>(book.CodeOf(y < 0, magnitude)) << 8 * n;
        const int doubled = book.doubled[static_cast<size_t>(magnitude)];
        squares += doubled * doubled;
      }
      *word = codes;
    }
    return SumOfLanes(squares);
  }

  // fn(token), a thread each.
  template <typename Fn>
  TQ_DEVICE void ForTokens(Fn&& fn) const {
    for (int token = ThreadId(); token < kPageTokens; token += Threads()) fn(token);
  }

  TQ_DEVICE void SealTokens(const Codebook& book, float codebook_gain) const {
    for (int token = ThreadId() / 16; token < kPageTokens; token += Threads() / 16) {
      const float squares = SumOfSquares(token);
      if (LaneId() % 16 == 0) Norms()[token] = squares;
    }
    SyncThreads();
    ForTokens([&](int token) {
      const float norm = SqrtRn(Norms()[token]);
      Norms()[token] = norm;
      Gains()[token] = norm > 0 ? DivRn(codebook_gain, norm) : 0.0f;
    });
    SyncThreads();
    for (int token = WarpId(); token < kPageTokens; token += Threads() / 32) {
      const int squares = Quantize(book, token);
      if (LaneId() == 0)
        Gains()[token] = static_cast<float>(squares);  // the gain is not needed now
    }
    SyncThreads();
    ForTokens([&](int token) {
      const float level_norm = MulRn(SqrtRn(Gains()[token]), 0.5f);
      const uint16_t scale = FiniteHalf(DivRn(Norms()[token], level_norm));
      WriteScale(to, OtherInRows(), sealed, token, scale);
    });
  }

  template <int kBits>
  TQ_DEVICE void WriteUnits() const {
    constexpr TileLayout tile = MakeTileLayout(kDim);
    for (int i = ThreadId(); i < tile.tiles_per_page() * 32 * tile.units; i += Threads()) {
      CodePlace place = {i / (32 * tile.units), i % 32, i / 32 % tile.units, 0};
      uint32_t words[4] = {};
#pragma unroll
      for (int n = 0; n < kUnitCodes; ++n) {
        place.index = n;
        const TokenDim at = kKeys ? KeyAt(tile, place) : ValueAt(tile, place);
        SetUnitCode(kBits, words, n, static_cast<uint8_t>(Row(at.token)[at.dim]));
      }
#pragma unroll
      for (int w = 0; w < kBits; ++w) {
        *reinterpret_cast<uint32_t*>(sealed + to.CodesOffset(place.tile) +
                                     WordOffset(tile, kBits, place.lane, place.unit, w)) = words[w];
      }
    }
  }

  TQ_DEVICE void Run() const {
    if (from.codec == to.codec) return Copy();
    Load();
    SyncThreads();
    if (kKeys) SealReference();
    if (to.trellis) return;
    SyncThreads();
    SealTokens(kKeys ? p.k_book : p.v_book, kKeys ? p.k_gain : p.v_gain);
    if (to.bits == 2) WriteUnits<2>();
    if (to.bits == 3) WriteUnits<3>();
    if (to.bits == 4) WriteUnits<4>();
  }
};

template <int kDim>
TQ_KERNEL(kPageThreads, 4)
SealKernel(const TQ_GRID_CONSTANT SealParams p) {
  const SealJob& job = p.jobs[BlockId()];
  if (job.side == Side::kKey) {
    Sealer<kDim, Side::kKey>(p, job).Run();
  } else {
    Sealer<kDim, Side::kValue>(p, job).Run();
  }
}

}  // namespace

SealKernelFn SealKernelOf(int head_dim) {
  return ForHeadDim<SealKernelFn>(head_dim,
                                  []<int kDim>() -> SealKernelFn { return SealKernel<kDim>; });
}

}  // namespace tq::cuda
