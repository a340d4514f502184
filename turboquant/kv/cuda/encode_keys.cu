// SPDX-License-Identifier: Apache-2.0
// Keys of many new tokens, in the stored basis already, into open pages: a block per slot and head
// goes from page to page, because each opens with the mean of what the one before decodes to. All
// tokens of a page are encoded at once, while those of the next page are on their way.
#include "turboquant/codec/cuda/head_dims.h"
#include "turboquant/kv/cuda/encoder.cuh"

namespace tq::cuda {
namespace {

template <int kDim>
struct KeyChain {
  static constexpr int kParts = Encoder<kDim>::kParts;
  static constexpr int kWarps = kChainThreads / 32;
  // Tokens that a warp holds in registers at a time.
  static constexpr int kHeld = kDim <= 128 ? 4 : 1;
  static constexpr int kBatches = kPageTokens / kWarps / kHeld;
  struct Batch {
    float x[kHeld][kParts];
  };

  const Encoder<kDim>& encoder;
  const EncodeParams& p;
  int first, count;

  TQ_DEVICE TileSide Keys() const { return FixedSide<kDim, Side::kKey>(p.open); }
  TQ_DEVICE float* Reference() const { return reinterpret_cast<float*>(SharedMemory()); }
  TQ_DEVICE float* Scales() const { return Reference() + kDim; }  // [tokens]
  TQ_DEVICE int8_t* Codes() const {                               // [tokens][kDim]
    return reinterpret_cast<int8_t*>(Scales() + kPageTokens);
  }
  TQ_DEVICE static int TokenOf(int batch, int i) { return (batch * kHeld + i) * kWarps + WarpId(); }
  TQ_DEVICE bool IsNew(int page, int token) const {
    const int position = page * kPageTokens + token;
    return position >= first && position < first + count;
  }

  TQ_DEVICE void Load(int page, int batch, Batch& to) const {
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      const int token = TokenOf(batch, i);
      const bool is_new = IsNew(page, token);
      const float* x = encoder.KeptKeys(p.tables.first_rows[encoder.slot] +
                                        (is_new ? page * kPageTokens + token - first : 0));
#pragma unroll
      for (int j = 0; j < kParts; ++j) {
        const int d = 32 * j + LaneId();
        to.x[i][j] = is_new && d < kDim ? x[d] : 0.0f;
      }
    }
  }

  TQ_DEVICE void EncodeBatch(int page, int batch, const Batch& from, std::byte* open) const {
    const TileSide s = Keys();
    const int lane = LaneId();
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      const int token = TokenOf(batch, i);
      if (!IsNew(page, token)) {
        if (page * kPageTokens + token < first) TakeOld(open, token);
        continue;
      }
      float z[kParts];
      float absmax = 0;
#pragma unroll
      for (int j = 0; j < kParts; ++j) {
        const int d = 32 * j + lane;
        z[j] = d < kDim ? SubRn(Sanitize(from.x[i][j]), Reference()[d]) : 0.0f;
        absmax = Max(absmax, Abs(z[j]));
      }
      const uint16_t stored = ScaleOf8(WarpMax(absmax));
      const Coder8 coder(HalfLow(stored));
#pragma unroll
      for (int j = 0; j < kParts; ++j) {
        const int d = 32 * j + lane;
        if (d >= kDim) continue;
        const int code = coder.Code(z[j]);
        open[ByteOf8(s, token, d)] = static_cast<std::byte>(code);
        Codes()[token * kDim + d] = static_cast<int8_t>(code);
      }
      if (lane == 0) {
        WriteScale(s, p.open.v.rows, open, token, stored);
        Scales()[token] = HalfLow(stored);
      }
    }
  }

  // A token of an earlier step: the mean counts it.
  TQ_DEVICE void TakeOld(const std::byte* open, int token) const {
    for (int d = LaneId(); d < kDim; d += 32) {
      Codes()[token * kDim + d] = static_cast<int8_t>(open[ByteOf8(Keys(), token, d)]);
    }
    if (LaneId() == 0) Scales()[token] = ReadHalf(open + Keys().ScaleOffset(token));
  }

  // Opens `page` with the mean of the page whose codes lie in shared memory, as MeanKey8 adds.
  TQ_DEVICE void OpenNext(int page) const {
    std::byte* open = encoder.Open(page);
    for (int d = ThreadId(); d < kDim; d += Threads()) {
      const float r = Reference()[d];
      float sum = 0;
      if (p.centring) {
#pragma unroll 16
        for (int token = 0; token < kPageTokens; ++token) {
          const float code = SmallToFloat(Codes()[token * kDim + d]);
          sum = AddRn(sum, AddRn(MulRn(code, Scales()[token]), r));
        }
      }
      const uint16_t next = FiniteHalf(Sanitize(MulRn(sum, 1.0f / kPageTokens)));
      StoreHalf(open + p.open.reference_offset + 2 * d, next);
      Reference()[d] = HalfLow(next);
    }
    WriteReferencePadding(p.open.k, open, p.open.reference_offset, p.open.tiles_offset);
  }

  TQ_DEVICE void Run() const {
    const int first_page = first / kPageTokens, last_page = (first + count - 1) / kPageTokens;
    Batch batch;
    Load(first_page, 0, batch);
    if (first_page * kPageTokens >= first) encoder.OpenPage(first_page);
    SyncThreads();
    for (int d = ThreadId(); d < kDim; d += Threads()) {
      Reference()[d] = ReadHalf(encoder.Open(first_page) + p.open.reference_offset + 2 * d);
    }
    SyncThreads();
    for (int page = first_page; page <= last_page; ++page) {
      std::byte* open = encoder.Open(page);
#pragma unroll 1
      for (int b = 0; b < kBatches; ++b) {
        const Batch now = batch;
        const bool last = b + 1 == kBatches;
        if (page + last <= last_page) Load(page + last, last ? 0 : b + 1, batch);
        EncodeBatch(page, b, now, open);
      }
      SyncThreads();
      if (page == last_page) break;
      OpenNext(page + 1);
      SyncThreads();
    }
  }
};

template <int kDim>
TQ_KERNEL(kChainThreads, 1)
KeyChainKernel(const TQ_GRID_CONSTANT EncodeParams p) {
  LetNextStart();
  WaitForInputs();
  const int slot = BlockId() / p.kv_heads, head = BlockId() % p.kv_heads;
  const int count = p.tables.tokens[slot];
  if (count == 0) return;
  const Encoder<kDim> encoder = {p, slot, head};
  const KeyChain<kDim> chain = {encoder, p, p.tables.first_positions[slot], count};
  chain.Run();
}

}  // namespace

EncodeKernelFn KeyChainKernelOf(int head_dim) {
  return ForHeadDim<EncodeKernelFn>(
      head_dim, []<int kDim>() -> EncodeKernelFn { return KeyChainKernel<kDim>; });
}

}  // namespace tq::cuda
