// SPDX-License-Identifier: Apache-2.0
// One side of a tile to trellis codes, the search over gains of codec/cpu/trellis_tile.inl: a block
// per tile. Every encoding of the tile runs all of its rings, two per thread.
#include "turboquant/codec/cuda/page_ops.cuh"
#include "turboquant/codec/cuda/trellis_ring.cuh"
#include "turboquant/kv/cuda/page_params.h"
#include "turboquant/kv/cuda/sealed_levels.cuh"

namespace tq::cuda {
namespace {

// By bits - 2.
TQ_DEVICE_DATA TrellisNearest trellis_nearest[3];

TQ_KERNEL(kTrellisNearestThreads, 1)
TrellisNearestKernel(int bits) {
  const int index = BlockId() * Threads() + ThreadId();
  if (index >= kTrellisInputs) return;
  if (bits == 2) FillTrellisNearest<2>(index, trellis_nearest[0]);
  if (bits == 3) FillTrellisNearest<3>(index, trellis_nearest[1]);
  if (bits == 4) FillTrellisNearest<4>(index, trellis_nearest[2]);
}

// kDim: the head dim, or 0 for any, known when running only.
template <int kDim, int kBits>
struct TrellisSealer {
  using Rings = RingPair<kBits>;
  static constexpr int kWarps = kTrellisThreads / 32;

  const SealParams& p;
  const TileSide& from;
  const TileSide& to;
  const std::byte* open;
  std::byte* sealed;
  bool keys;
  int tile;
  TrellisMemory at;

  template <typename T>
  TQ_DEVICE T* Shared(int offset) const {
    return reinterpret_cast<T*>(SharedMemory() + offset);
  }
  TQ_DEVICE int8_t* Codes() const { return Shared<int8_t>(at.codes); }
  TQ_DEVICE float* References() const { return Shared<float>(at.references); }
  TQ_DEVICE float* Trial() const { return Shared<float>(at.trial); }
  TQ_DEVICE float* Gains() const { return Shared<float>(at.gains); }
  TQ_DEVICE TileLayout Layout() const { return kDim != 0 ? MakeTileLayout(kDim) : to.tile; }
  TQ_DEVICE int Dims() const { return Layout().head_dim; }
  TQ_DEVICE int Tokens() const { return Layout().tokens; }
  TQ_DEVICE int RingCount() const { return Layout().units * 32; }
  TQ_DEVICE TrellisGroups Groups() const {
    return TrellisGroups(Layout(), keys ? Side::kKey : Side::kValue);
  }

  // Where in rows [tokens][D] the ring positions of a unit's first lane lie: [unit][position].
  TQ_DEVICE uint16_t* Places() const { return Shared<uint16_t>(at.places); }
  TQ_DEVICE void FillPlaces() const {
    const TrellisGroups groups = Groups();
    for (int i = ThreadId(); i < RingCount(); i += kTrellisThreads) {
      const int position = i % kUnitCodes, n = position % 4 * 8 + position / 4;
      Places()[i] = static_cast<uint16_t>(groups.OfCode(i / kUnitCodes, n));
    }
  }

  // A code decoded, less the new reference. Values are made from codes whenever they are
  // wanted: memory for them would leave room for fewer blocks.
  TQ_DEVICE float Decoded(int token, int d) const {
    const float x =
        ValueOfLevel(Codes()[token * Dims() + d], LevelRest(from), Shared<float>(at.scales)[token]);
    return keys ? SubRn(AddRn(x, References()[d]), References()[Dims() + d]) : x;
  }
  // y = x * gain / norm.
  TQ_DEVICE float Value(int token, int d) const {
    return MulRn(Decoded(token, d), Shared<float>(at.factors)[token]);
  }

  TQ_DEVICE void LoadCodes() const {
    for (int d = ThreadId(); keys && d < Dims(); d += kTrellisThreads) {
      References()[d] = ReadHalf(open + p.open.reference_offset + 2 * d);
      References()[Dims() + d] = ReadHalf(sealed + p.sealed.reference_offset + 2 * d);
    }
    if (from.bits != 8) UnpackLevels(from, Layout(), open, tile, 1, Codes());
    SyncThreads();
    for (int token = WarpId(); token < Tokens(); token += kWarps) {
      const int in_page = tile * Tokens() + token;
      for (int d = LaneId(); from.bits == 8 && d < Dims(); d += 32) {
        Codes()[token * Dims() + d] = static_cast<int8_t>(open[ByteOf8(from, in_page, d)]);
      }
      if (LaneId() == 0) {
        Shared<float>(at.scales)[token] = ReadHalf(open + from.ScaleOffset(in_page));
      }
      SyncWarp();
      const float norm = SqrtRn(SumOfSquares(token));
      if (LaneId() == 0) {
        Shared<float>(at.norms)[token] = norm;
        Shared<float>(at.factors)[token] = norm > 0 ? DivRn(keys ? p.k_gain : p.v_gain, norm) : 0;
        Gains()[token] = Trial()[token] = 1.0f;
        Shared<int>(at.products)[token] = Shared<int>(at.squares)[token] = 0;
      }
    }
  }

  // 16 strided sums, then a tree: the order that the format fixes.
  TQ_DEVICE float SumOfSquares(int token) const {
    float sum = 0;
    for (int d = LaneId() & 15; d < Dims(); d += 16) {
      const float x = Decoded(token, d);
      sum = AddRn(sum, MulRn(x, x));
    }
#pragma unroll
    for (int width = 8; width > 0; width /= 2) sum = AddRn(sum, ShuffleXor(sum, width));
    return sum;
  }

  TQ_DEVICE int InputOf(int token, float value) const {
    const float factor = MulRn(Trial()[token], static_cast<float>(TrellisGrid(kBits)));
    return RoundToInt(Clamp(MulRn(value, factor), static_cast<float>(kTrellisMaxInput)));
  }
  TQ_DEVICE int InputAt(int place) const {
    const int token = place / Dims();
    return InputOf(token, Value(token, place % Dims()));
  }
  TQ_DEVICE static int Judged(float value) {
    return RoundToInt(Clamp(MulRn(value, static_cast<float>(kTrellisScoreGrid)),
                            static_cast<float>(kTrellisMaxScoreInput)));
  }

  // What a ring adds to its tokens: sums of inputs times levels, and of levels squared.
  struct TokenSums {
    int token = -1;
    int product = 0, square = 0;
  };
  TQ_DEVICE void Flush(TokenSums& sums) const {
    if (sums.token < 0) return;
    AtomicAdd(Shared<uint32_t>(at.products) + sums.token, static_cast<uint32_t>(sums.product));
    AtomicAdd(Shared<uint32_t>(at.squares) + sums.token, static_cast<uint32_t>(sums.square));
    sums = {};
  }
  TQ_DEVICE void AddLevel(TokenSums& sums, int token, float value, int level) const {
    if (token != sums.token) {
      Flush(sums);
      sums.token = token;
    }
    sums.product += Judged(value) * level;
    sums.square += level * level;
  }

  // All rings with the trial gains: words [unit][lane][kBits], and what their levels come to.
  TQ_DEVICE void EncodeRings() const {
    const TrellisGroups groups = Groups();
    const Rings rings = {trellis_nearest[kBits - 2], Shared<uint4>(at.costs) + ThreadId(),
                         Shared<int8_t>(at.table), kTrellisThreads};
    for (int pair = ThreadId(); pair < RingCount() / 2; pair += kTrellisThreads) {
      // Rings `pair` and `pair + RingCount() / 2`: the same lane of two units.
      const int of_lane = groups.OfLane(pair % 32), unit = pair / 32;
      const auto place = [&](int ring, int position) {
        return of_lane + Places()[(unit + ring * (RingCount() / 64)) * kUnitCodes + position];
      };
#pragma unroll 2
      for (int position = 0; position < kUnitCodes; ++position) {
        rings.SetInputs(position, InputAt(place(0, position)), InputAt(place(1, position)));
      }
      uint32_t start[2] = {}, coded[2];
      rings.Search(start);
      rings.Trace(start, coded);
#pragma unroll
      for (int ring = 0; ring < 2; ++ring) {
        uint32_t words[kBits] = {coded[ring]}, parities[kTrellisMaxParities];
        Rings::Parities(coded[ring], parities);
        TokenSums sums;
#pragma unroll 4
        for (int position = 0; position < kUnitCodes; ++position) {
          const int token = place(ring, position) / Dims(), d = place(ring, position) % Dims();
          const uint32_t parity = Rings::ParityAt(parities, position);
          const float value = Value(token, d);
          const uint32_t free = rings.Free(InputOf(token, value), parity);
          AddLevel(sums, token, value, rings.Level(free, parity));
          AddFreeBits(words, position, free);
        }
        Flush(sums);
        uint32_t* out = Shared<uint32_t>(at.words) + (pair + ring * (RingCount() / 2)) * kBits;
#pragma unroll
        for (int w = 0; w < kBits; ++w) out[w] = words[w];
      }
    }
    SyncThreads();
  }

  // SetFreeBits with word numbers that are known when compiled.
  TQ_DEVICE static void AddFreeBits(uint32_t (&words)[kBits], int position, uint32_t free) {
    const int j = position % 4, shift = position / 4 * 4;
    if constexpr (kBits == 2) {
      words[1] |= free << (shift + j);
    } else if constexpr (kBits == 3) {
      const uint32_t bits = free << (shift + j % 2 * 2);
      words[1] |= j < 2 ? bits : 0u;
      words[2] |= j < 2 ? 0u : bits;
    } else {
#pragma unroll
      for (int e = 0; e < 3; ++e) {
        words[1 + e] |= j == e ? free << shift : j == 3 ? (free >> e & 1u) << (shift + 3) : 0u;
      }
    }
  }

  // Scores of the levels as encoded; groups that gained keep them, the others go back. `gain`: the
  // trial gain of the tokens that this encoding moved.
  TQ_DEVICE void AcceptBetter(bool first, int subset, float gain) const {
    const TrellisGroups groups = Groups();
    float* scores = Shared<float>(at.scores);
    int* squares = Shared<int>(at.squares);
    for (int token = ThreadId(); token < Tokens(); token += kTrellisThreads) {
      const auto product = static_cast<float>(Shared<int>(at.products)[token]);
      const int square = squares[token];
      scores[token] =
          square > 0 ? DivRn(MulRn(product, product), static_cast<float>(square)) : 0.0f;
    }
    SyncThreads();
    float* best = Shared<float>(at.best);
    int* better = Shared<int>(at.better);
    for (int group = ThreadId(); group < groups.count(); group += kTrellisThreads) {
      float sum = 0;
      for (int token = 0; token < Tokens(); ++token) {
        const float with = AddRn(sum, scores[token]);
        sum = groups.OfToken(token) == group ? with : sum;
      }
      better[group] = first || sum > best[group];
      if (better[group] != 0) best[group] = sum;
    }
    SyncThreads();
    for (int token = ThreadId(); token < Tokens(); token += kTrellisThreads) {
      const bool moved = subset < 0 || TrellisGroups::SubsetOf(token) == subset;
      if (better[groups.OfToken(token)] != 0) {
        Shared<int>(at.best_squares)[token] = squares[token];
        if (moved) Gains()[token] = gain;
      }
      Trial()[token] = Gains()[token];
      Shared<int>(at.products)[token] = squares[token] = 0;
    }
    for (int i = ThreadId(); i < RingCount() * kBits; i += kTrellisThreads) {
      const int ring = i / kBits;
      if (better[groups.OfUnit(ring % 32, ring / 32)] != 0) {
        Shared<uint32_t>(at.best_words)[i] = Shared<uint32_t>(at.words)[i];
      }
    }
    SyncThreads();
  }

  TQ_DEVICE void TryGain(float gain, int subset) const {
    for (int token = ThreadId(); token < Tokens(); token += kTrellisThreads) {
      if (subset < 0 || TrellisGroups::SubsetOf(token) == subset) Trial()[token] = gain;
    }
    SyncThreads();
    EncodeRings();
    AcceptBetter(false, subset, gain);
  }

  TQ_DEVICE void Run() const {
    const Trellis& trellis = keys ? p.k_trellis : p.v_trellis;
    for (int i = ThreadId(); i < Rings::kParities * Rings::kFree; i += kTrellisThreads) {
      Shared<int8_t>(at.table)[i] = static_cast<int8_t>(trellis.Level(
          static_cast<uint32_t>(i % Rings::kFree), static_cast<uint32_t>(i / Rings::kFree)));
    }
    FillPlaces();
    LoadCodes();
    SyncThreads();
    EncodeRings();
    AcceptBetter(true, -1, 1.0f);
    const int gains = keys ? p.key_gain_count : p.value_gain_count;
    for (int i = 0; i < gains; ++i) {
      if (keys) {
        TryGain(p.key_gains[i], -1);
      } else {
        for (int subset = 0; subset < kTrellisValueSubsets; ++subset) {
          TryGain(p.value_gains[i], subset);
        }
      }
    }
    std::byte* codes = sealed + to.CodesOffset(tile);
    for (int i = ThreadId(); i < RingCount() * kBits; i += kTrellisThreads) {
      const int ring = i / kBits;
      *reinterpret_cast<uint32_t*>(codes +
                                   WordOffset(Layout(), kBits, ring % 32, ring / 32, i % kBits)) =
          Shared<uint32_t>(at.best_words)[i];
    }
    for (int token = ThreadId(); token < Tokens(); token += kTrellisThreads) {
      const float length = SqrtRn(static_cast<float>(Shared<int>(at.best_squares)[token]));
      const float scale = length > 0 ? DivRn(Shared<float>(at.norms)[token], length) : 0.0f;
      WriteScale(to, keys ? p.sealed.v.rows : p.sealed.k.rows, sealed, tile * Tokens() + token,
                 FiniteHalf(scale));
    }
  }
};

// The side of every job that this launch is for; its reference is written already. The kernel of
// the other side may run beside this one: it ends no sooner than the one before.
template <int kDim, int kBits>
TQ_KERNEL(kTrellisThreads, 2)
TrellisSealKernel(const TQ_GRID_CONSTANT SealParams p) {
  LetNextStart();
  const TileLayout tile = kDim != 0 ? MakeTileLayout(kDim) : p.sealed.k.tile;
  const int tiles = tile.tiles_per_page();
  const SealJob& job = p.jobs[BlockId() / tiles];
  if (job.side == p.trellis_side) {
    const bool keys = job.side == Side::kKey;
    const TrellisSealer<kDim, kBits> sealer = {p,
                                               keys ? p.open.k : p.open.v,
                                               keys ? p.sealed.k : p.sealed.v,
                                               p.arena + job.open_offset,
                                               p.arena + job.sealed_offset,
                                               keys,
                                               BlockId() % tiles,
                                               MakeTrellisMemory(tile.head_dim, kBits)};
    sealer.Run();
  }
  WaitForInputs();
}

template <int kDim>
SealKernelFn OfBits(int bits) {
  return bits == 2   ? TrellisSealKernel<kDim, 2>
         : bits == 3 ? TrellisSealKernel<kDim, 3>
                     : TrellisSealKernel<kDim, 4>;
}

}  // namespace

TrellisNearestKernelFn TrellisNearestKernelOf() { return TrellisNearestKernel; }

SealKernelFn TrellisSealKernelOf(int head_dim, int bits) {
  return head_dim == 128 ? OfBits<128>(bits) : OfBits<0>(bits);
}

}  // namespace tq::cuda
