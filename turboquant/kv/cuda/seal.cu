// SPDX-License-Identifier: Apache-2.0
// Whole pages to the next form, open ones to sealed, sealed ones to fewer bits, with the bytes of
// PageCodec::SealKeys and SealValues. A block per page side; codes gather in shared memory, then
// become words of units.
#include "turboquant/codec/cuda/head_dims.h"
#include "turboquant/codec/cuda/page_ops.cuh"
#include "turboquant/codec/cuda/tile_places.h"
#include "turboquant/kv/cuda/page_params.h"
#include "turboquant/kv/cuda/sealed_levels.cuh"

namespace tq::cuda {
namespace {

template <int kDim, Side kSide>
struct Sealer {
  static constexpr int kParts = (kDim + 31) / 32;
  static constexpr bool kKeys = kSide == Side::kKey;

  const SealParams& p;
  TileSide from, to;
  const std::byte* open;
  std::byte* sealed;

  TQ_DEVICE Sealer(const SealParams& params, const SealJob& job)
      : p(params),
        from(FixedSide<kDim, kSide>(params.open)),
        to(FixedSide<kDim, kSide>(params.sealed)),
        open(params.arena + job.open_offset),
        sealed(params.arena + job.sealed_offset) {}

  TQ_DEVICE uint8_t* Codes() const { return reinterpret_cast<uint8_t*>(SharedMemory()); }
  TQ_DEVICE float* Reference() const {
    return reinterpret_cast<float*>(SharedMemory() + kPageTokens * kDim);
  }
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

  // The mean of the page's keys; it stays when they are sealed again.
  TQ_DEVICE void SealReference() const {
    if (from.bits != 8) {
      for (int dim = ThreadId(); dim < kDim; dim += Threads()) {
        Reference()[dim] = ReadHalf(open + p.open.reference_offset + 2 * dim);
      }
      return CopyReference();
    }
    for (int dim = ThreadId(); dim < kDim; dim += Threads()) {
      const uint16_t r = FiniteHalf(Sanitize(MeanKey8(from, open, p.open.reference_offset, dim)));
      StoreHalf(sealed + p.sealed.reference_offset + 2 * dim, r);
      Reference()[dim] = HalfLow(r);
    }
    WriteReferencePadding(to, sealed, p.sealed.reference_offset, p.sealed.tiles_offset);
  }

  // The decoded vector of a token minus the new reference; lane holds dims 32 j + lane. Levels of
  // a page that was sealed before lie where its codes are going to.
  TQ_DEVICE void LoadToken(int token, float (&x)[kParts]) const {
    const float scale = ReadHalf(open + from.ScaleOffset(token));
#pragma unroll
    for (int j = 0; j < kParts; ++j) {
      const int d = 32 * j + LaneId();
      x[j] = 0;
      if (d >= kDim) continue;
      x[j] = from.bits == 8 ? Value8(from, open, token, d, scale)
                            : ValueOfLevel(static_cast<int8_t>(Codes()[token * kDim + d]),
                                           LevelRest(from), scale);
      if (kKeys) {
        x[j] = SubRn(AddRn(x[j], ReadHalf(open + p.open.reference_offset + 2 * d)), Reference()[d]);
      }
    }
  }

  // 16 strided sums, then a tree: the order that the format fixes.
  TQ_DEVICE float SumOfSquares(const float (&x)[kParts]) const {
    float sum = 0;  // of lane % 16, in lanes below 16
#pragma unroll
    for (int j = 0; j < kParts; ++j) {
      const float square = MulRn(x[j], x[j]);
      sum = AddRn(sum, square);
      const float next = ShuffleXor(square, 16);
      if (32 * j + 16 < kDim) sum = AddRn(sum, next);
    }
#pragma unroll
    for (int width = 8; width > 0; width /= 2) sum = AddRn(sum, ShuffleXor(sum, width));
    return Shuffle(sum, 0);
  }

  TQ_DEVICE void SealToken(const Codebook& book, float codebook_gain, int token) const {
    float x[kParts];
    LoadToken(token, x);
    const float norm = SqrtRn(SumOfSquares(x));
    const float gain = norm > 0 ? DivRn(codebook_gain, norm) : 0.0f;
    int squares = 0;  // of 2 level
#pragma unroll
    for (int j = 0; j < kParts; ++j) {
      const int d = 32 * j + LaneId();
      if (d >= kDim) continue;
      const float y = MulRn(x[j], gain);
      int magnitude = 0;
#pragma unroll
      for (int i = 0; i < 7; ++i) {
        if (i + 1 < book.magnitudes && Abs(y) > book.thresholds[static_cast<size_t>(i)]) {
          ++magnitude;
        }
      }
      Codes()[token * kDim + d] = static_cast<uint8_t>(book.CodeOf(y < 0, magnitude));
      const int doubled = book.doubled[static_cast<size_t>(magnitude)];
      squares += doubled * doubled;
    }
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2) squares += ShuffleXor(squares, mask);
    const float level_norm = MulRn(SqrtRn(static_cast<float>(squares)), 0.5f);
    if (LaneId() == 0) {
      WriteScale(to, OtherInRows(), sealed, token, FiniteHalf(DivRn(norm, level_norm)));
    }
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
        SetUnitCode(kBits, words, n, Codes()[at.token * kDim + at.dim]);
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
    if (kKeys) SealReference();
    if (to.trellis) return;
    if (from.bits != 8) {
      UnpackLevels(from, open, 0, from.tile.tiles_per_page(), reinterpret_cast<int8_t*>(Codes()),
                   kDim);
    }
    SyncThreads();
    const Codebook& book = kKeys ? p.k_book : p.v_book;
    for (int token = WarpId(); token < kPageTokens; token += Threads() / 32) {
      SealToken(book, kKeys ? p.k_gain : p.v_gain, token);
    }
    SyncThreads();
    if (to.bits == 2) WriteUnits<2>();
    if (to.bits == 3) WriteUnits<3>();
    if (to.bits == 4) WriteUnits<4>();
  }
};

template <int kDim>
TQ_KERNEL(kPageThreads, 1)
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
