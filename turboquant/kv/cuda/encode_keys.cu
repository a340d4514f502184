// SPDX-License-Identifier: Apache-2.0
// Keys of many new tokens, in the stored basis already, into open pages: the threads of a slot and
// head go from page to page, because each opens with the mean of what the one before decodes to.
// All tokens of a page are encoded at once, into shared memory, while the next ones are on their
// way; then some warps add the mean while the others write the page.
#include <type_traits>

#include "turboquant/codec/cuda/head_dims.h"
#include "turboquant/kv/cuda/encoder.cuh"

namespace tq::cuda {
namespace {

template <int kDim>
struct KeyChain {
  static constexpr int kQuads = Encoder<kDim>::kQuads;
  static constexpr int kWarps = kChainThreads / 32;
  // Tokens that a warp has in hand at a time: their steps are interleaved, for each waits long for
  // the one before.
  static constexpr int kHeld = kChainQuads / kQuads;
  static constexpr int kBatches = kPageTokens / kWarps / kHeld;
  static constexpr int kAhead = ChainAhead(kDim);

  const Encoder<kDim>& encoder;
  const EncodeParams& p;
  int first, count;
  const float* kept;  // of token `first`

  TQ_DEVICE TileSide Keys() const { return FixedSide<kDim, Side::kKey>(p.open); }
  TQ_DEVICE float* Reference() const { return reinterpret_cast<float*>(SharedMemory()); }
  TQ_DEVICE float* Scales() const { return Reference() + kDim; }  // [tokens]
  TQ_DEVICE int8_t* Codes() const {                               // [tokens][kDim]
    return reinterpret_cast<int8_t*>(Scales() + kPageTokens);
  }
  TQ_DEVICE static int TokenOf(int batch, int i) {
    return (batch * kHeld + i) * kWarps + ThreadId() / 32;
  }
  TQ_DEVICE bool IsNew(int page, int token) const {
    const int position = page * kPageTokens + token;
    return position >= first && position < first + count;
  }

  // A lane's quads of a batch on their way: it reads what it has copied itself.
  TQ_DEVICE float4* Staged(int n, int i, int j) const {
    auto* staged = reinterpret_cast<float4*>(Codes() + kPageTokens * kDim);
    return staged + ((n % kAhead * kHeld + i) * kQuads + j) * kChainThreads + ThreadId();
  }
  // Batch n from the first page on; zeros for tokens that are not new.
  TQ_DEVICE void Load(int n) const {
    const int page = first / kPageTokens + n / kBatches;
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      const int token = TokenOf(n % kBatches, i);
      const bool is_new = IsNew(page, token);
      const int64_t row = is_new ? page * kPageTokens + token - first : 0;
      const float* x = kept + row * p.kv_heads * kDim;
      encoder.ForQuads([&](int j, int d) {
        CopyAsync(reinterpret_cast<std::byte*>(Staged(n, i, j)),
                  reinterpret_cast<const std::byte*>(x + d), is_new ? 16 : 0);
      });
    }
    CopyCommit();
  }

  TQ_DEVICE void EncodeBatch(int n, int page, const std::byte* open) const {
    float4 z[kHeld][kQuads];
    float absmax[kHeld] = {};
    encoder.ForQuads([&](int j, int d) {
      const float4 r = *reinterpret_cast<const float4*>(Reference() + d);
#pragma unroll
      for (int i = 0; i < kHeld; ++i) {
        z[i][j] = SubQuads(*Staged(n, i, j), r);
        absmax[i] = Max(absmax[i], AbsMax(z[i][j]));
      }
    });
    Load(n + kAhead);  // into the place of what has just been read
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2) {
#pragma unroll
      for (int i = 0; i < kHeld; ++i) absmax[i] = Max(absmax[i], ShuffleXor(absmax[i], mask));
    }
    // Of most pages all tokens are new.
    const bool whole = IsNew(page, 0) && IsNew(page, kPageTokens - 1);
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      const int token = TokenOf(n % kBatches, i);
      const float scale = HalfLow(ScaleOf8(absmax[i]));
      const Coder8 coder(scale);
      if (!whole && !IsNew(page, token)) {
        if (page * kPageTokens + token < first) TakeOld(open, token);
        continue;
      }
      encoder.ForQuads([&](int j, int d) {
        *reinterpret_cast<uint32_t*>(Codes() + token * kDim + d) = coder.Codes(z[i][j]);
      });
      if (LaneId() == 0) Scales()[token] = scale;
    }
  }

  // A token of an earlier step: the mean counts it.
  TQ_DEVICE void TakeOld(const std::byte* open, int token) const {
    encoder.ForQuads([&](int, int d) {
      *reinterpret_cast<uint32_t*>(Codes() + token * kDim + d) =
          *reinterpret_cast<const uint32_t*>(open + ByteOf8(Keys(), token, d));
    });
    if (LaneId() == 0) Scales()[token] = ReadHalf(open + Keys().ScaleOffset(token));
  }

  // The page whose codes lie in shared memory, by threads from `begin` on.
  TQ_DEVICE void Write(int page, std::byte* open, int begin) const {
    // Neighbouring dims of a key lie beside each other, in pieces of 16 where a lane has as many.
    using Piece = std::conditional_t<kDim / 4 % 16 == 0, uint4, uint32_t>;
    constexpr int kPiece = static_cast<int>(sizeof(Piece)), kPieces = kDim / kPiece;
    const TileSide s = Keys();
    const int thread = ThreadId() - begin, threads = kChainThreads - begin;
    for (int i = thread; i < kPageTokens * kPieces; i += threads) {
      const int token = i / kPieces, d = i % kPieces * kPiece;
      if (IsNew(page, token))
        *reinterpret_cast<Piece*>(open + ByteOf8(s, token, d)) =
            *reinterpret_cast<const Piece*>(Codes() + token * kDim + d);
    }
    for (int token = thread; token < kPageTokens; token += threads) {
      if (IsNew(page, token)) WriteScale(s, p.open.v.rows, open, token, ToHalf(Scales()[token]));
    }
  }

  // Opens the next page with the mean of the page whose codes lie in shared memory, as MeanKey8
  // adds; d: this thread's dim.
  TQ_DEVICE void OpenNext(std::byte* next, int d) const {
    const float r = Reference()[d];
    float sum = 0;
    if (p.centring) {
#pragma unroll 16
      for (int token = 0; token < kPageTokens; ++token) {
        const float code = SmallToFloat(Codes()[token * kDim + d]);
        sum = AddRn(sum, AddRn(MulRn(code, Scales()[token]), r));
      }
    }
    const uint16_t mean = FiniteHalf(Sanitize(MulRn(sum, 1.0f / kPageTokens)));
    StoreHalf(next + p.open.reference_offset + 2 * d, mean);
    Reference()[d] = HalfLow(mean);
  }

  TQ_DEVICE void Run() const {
    const int first_page = first / kPageTokens, last_page = (first + count - 1) / kPageTokens;
#pragma unroll
    for (int n = 0; n < kAhead; ++n) Load(n);
    if (first_page * kPageTokens >= first) encoder.OpenPage(first_page, ThreadId(), kChainThreads);
    SyncThreads();
    std::byte* open = encoder.Open(first_page);
    if (ThreadId() < kDim)
      Reference()[ThreadId()] = ReadHalf(open + p.open.reference_offset + 2 * ThreadId());
    SyncThreads();
    int n = 0;
    for (int page = first_page;; ++page) {
      const bool more = page < last_page;
      std::byte* next = more ? encoder.Open(page + 1) : nullptr;
#pragma unroll 1
      for (int b = 0; b < kBatches; ++b, ++n) {
        CopyWait<kAhead - 1>();
        EncodeBatch(n, page, open);
      }
      SyncThreads();
      if (more && ThreadId() < kDim) OpenNext(next, ThreadId());
      const int writers = more && kDim < kChainThreads ? kDim : 0;
      if (ThreadId() >= writers) Write(page, open, writers);
      if (!more) break;
      WriteReferencePadding(p.open.k, next, p.open.reference_offset, p.open.tiles_offset,
                            ThreadId(), kChainThreads);
      open = next;
      SyncThreads();
    }
  }
};

template <int kDim>
TQ_KERNEL(kChainThreads, 2)
KeyChainKernel(const TQ_GRID_CONSTANT EncodeParams p) {
  LetNextStart();
  WaitForInputs();
  const int slot = BlockId() / p.kv_heads, head = BlockId() % p.kv_heads;
  const int count = p.tables.tokens[slot];
  if (count == 0) return;
  const Encoder<kDim> encoder = {p, slot, head};
  const KeyChain<kDim> chain = {encoder, p, p.tables.first_positions[slot], count,
                                encoder.KeptKeys(p.tables.first_rows[slot])};
  chain.Run();
}

}  // namespace

EncodeKernelFn KeyChainKernelOf(int head_dim) {
  return ForHeadDim<EncodeKernelFn>(
      head_dim, []<int kDim>() -> EncodeKernelFn { return KeyChainKernel<kDim>; });
}

}  // namespace tq::cuda
