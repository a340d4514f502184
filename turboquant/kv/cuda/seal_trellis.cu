// SPDX-License-Identifier: Apache-2.0
// One side of a tile to trellis codes, the search of codec/cpu/trellis_tile.inl: a block per tile,
// two rings per thread, whose metrics and codes stay in its registers.
#include "turboquant/codec/cuda/page_ops.cuh"
#include "turboquant/codec/cuda/trellis_ring.cuh"
#include "turboquant/kv/cuda/page_params.h"

namespace tq::cuda {
namespace {

// By bits - 2.
TQ_DEVICE_DATA TrellisCosts trellis_costs[3][kTrellisInputs];

TQ_KERNEL(kTrellisCostsThreads, 1)
TrellisCostsKernel(int bits) {
  const int index = BlockId() * Threads() + ThreadId();
  if (index >= kTrellisInputs) return;
  trellis_costs[bits - 2][index] =
      TrellisCostsOf(TrellisOfBits(bits), index - kTrellisMaxInput);
}

// Ring positions in an order in which values of the same token mostly follow each other.
constexpr int OrderedPosition(int i) { return i / 8 * 4 + i / 4 % 2 + i / 2 % 2 * 16 + i % 2 * 2; }

// Levels of a ring, a byte a position.
struct RingLevels {
  uint32_t words[kUnitCodes / 4];
  TQ_DEVICE int At(int p) const {
    return static_cast<int8_t>(words[p / 4] >> (8 * (p % 4)));
  }
  TQ_DEVICE void Set(int p, int level) {  // where there was none
    words[p / 4] |= (static_cast<uint32_t>(level) & 255u) << (8 * (p % 4));
  }
};
struct RingCode {
  uint32_t coded;
  RingLevels levels;
};

// kDim: the head dim, or 0 for any, known when running only.
template <int kDim, int kBits>
struct TrellisSealer {
  using Rings = RingPair<kBits>;

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
  TQ_DEVICE TileLayout Layout() const { return kDim != 0 ? MakeTileLayout(kDim) : to.tile; }
  TQ_DEVICE int Dims() const { return Layout().head_dim; }
  TQ_DEVICE int Tokens() const { return Layout().tokens; }
  TQ_DEVICE int BlockThreads() const { return Layout().units * 16; }
  TQ_DEVICE TrellisGroups Groups() const {
    return TrellisGroups(Layout(), keys ? Side::kKey : Side::kValue);
  }
  // This thread's rings: the same lane of two units.
  TQ_DEVICE int Unit(int ring) const { return ThreadId() / 32 + ring * (Layout().units / 2); }

  // An open code decoded, less the new reference.
  TQ_DEVICE float Decoded(int token, int d) const {
    const auto code = static_cast<int8_t>(open[ByteOf8(from, tile * Tokens() + token, d)]);
    const float x = MulRn(SmallToFloat(code), Shared<float>(at.scales)[token]);
    if (!keys) return x;
    return SubRn(AddRn(x, ReadHalf(open + p.open.reference_offset + 2 * d)),
                 ReadHalf(sealed + p.sealed.reference_offset + 2 * d));
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

  TQ_DEVICE void LoadTargets() const {
    for (int token = WarpId(); token < Tokens(); token += BlockThreads() / 32) {
      if (LaneId() == 0) {
        Shared<float>(at.scales)[token] = ReadHalf(open + from.ScaleOffset(tile * Tokens() + token));
      }
      SyncWarp();
      const float norm = SqrtRn(SumOfSquares(token));
      if (LaneId() == 0) {
        Shared<float>(at.norms)[token] = norm;
        Shared<float>(at.factors)[token] = norm > 0 ? DivRn(keys ? p.k_gain : p.v_gain, norm) : 0;
        ClearSums(token);
      }
    }
    SyncThreads();
    const TrellisGroups groups = Groups();
    for (int i = ThreadId(); i < Layout().units * kUnitCodes * 32; i += BlockThreads()) {
      const int lane = i % 32, position = i / 32 % kUnitCodes, unit = i / 32 / kUnitCodes;
      const int place = groups.OfCode(unit, position % 4 * 8 + position / 4);
      const int token = (place + groups.OfLane(lane)) / Dims();
      const float y = MulRn(Decoded(token, (place + groups.OfLane(lane)) % Dims()),
                            Shared<float>(at.factors)[token]);
      Shared<int16_t>(at.targets)[i] = static_cast<int16_t>(
          RoundToInt(Clamp(MulRn(y, static_cast<float>(kTrellisTargetGrid)),
                           static_cast<float>(kTrellisMaxTarget))));
      if (lane == 0) Shared<uint8_t>(at.rows)[i / 32] = static_cast<uint8_t>(place / Dims());
    }
  }

  TQ_DEVICE int Target(int ring, int position) const {
    return Shared<int16_t>(at.targets)[(Unit(ring) * kUnitCodes + position) * 32 + LaneId()];
  }
  TQ_DEVICE int TokenOf(int ring, int position) const {
    return Shared<uint8_t>(at.rows)[Unit(ring) * kUnitCodes + position] +
           Groups().OfLane(LaneId()) / Dims();
  }

  // What rings add to their tokens.
  struct TokenSums {
    int token = -1;
    int product = 0, square = 0;
  };
  TQ_DEVICE void AddTo(int token, int product, int square) const {
    AtomicAdd(Shared<uint32_t>(at.products) + token, static_cast<uint32_t>(product));
    AtomicAdd(Shared<uint32_t>(at.squares) + token, static_cast<uint32_t>(square));
  }
  TQ_DEVICE void Flush(TokenSums (&sums)[2]) const {
    if (sums[0].token < 0) return;
    if (sums[0].token == sums[1].token) {
      AddTo(sums[0].token, sums[0].product + sums[1].product, sums[0].square + sums[1].square);
    } else {
      AddTo(sums[0].token, sums[0].product, sums[0].square);
      AddTo(sums[1].token, sums[1].product, sums[1].square);
    }
  }
  TQ_DEVICE void SumLevels(const RingCode (&codes)[2]) const {
    TokenSums sums[2];
#pragma unroll
    for (int i = 0; i < kUnitCodes; ++i) {
      const int position = OrderedPosition(i);
      const int tokens[2] = {TokenOf(0, position), TokenOf(1, position)};
      if (tokens[0] != sums[0].token || tokens[1] != sums[1].token) {
        Flush(sums);
        sums[0] = {tokens[0]};
        sums[1] = {tokens[1]};
      }
#pragma unroll
      for (int ring = 0; ring < 2; ++ring) {
        const int level = codes[ring].levels.At(position);
        sums[ring].product += Target(ring, position) * level;
        sums[ring].square += level * level;
      }
    }
    Flush(sums);
  }
  TQ_DEVICE void ClearSums(int token) const {
    Shared<int>(at.products)[token] = Shared<int>(at.squares)[token] = 0;
  }

  // The gain at which a vector's code fits it best.
  TQ_DEVICE static int GainOf(int product, int square) {
    if (product <= 0) return kTrellisGainOne;
    constexpr float kOne = kTrellisTargetGrid * kTrellisGainOne;
    const float gain =
        DivRn(MulRn(kOne, static_cast<float>(square)), static_cast<float>(product));
    constexpr float kLeast = kTrellisMinGain, kMost = kTrellisMaxGain;
    return RoundToInt(gain < kLeast ? kLeast : gain > kMost ? kMost : gain);
  }

  // gain: of all tokens, or 0 for each one's own.
  TQ_DEVICE void SetFactors(int gain, int shake) const {
    for (int token = ThreadId(); token < Tokens(); token += BlockThreads()) {
      const int own = gain != 0 ? gain
                                : GainOf(Shared<int>(at.best_products)[token],
                                         Shared<int>(at.best_squares)[token]);
      Shared<int>(at.plain)[token] = own * TrellisGrid(kBits);
      Shared<int>(at.shaken)[token] = TrellisShaken(own, shake) * TrellisGrid(kBits);
    }
    SyncThreads();
  }

  // One lap over both rings.
  TQ_DEVICE void Encode(int shaken_class, typename Rings::Metrics& metrics,
                        RingCode (&codes)[2]) const {
    const Rings rings = {Shared<TrellisCosts>(at.costs), Shared<uint32_t>(at.origins) + ThreadId(),
                         BlockThreads()};
    const auto input = [&](int ring, int position) {
      const int* factors =
          Shared<int>(position % kTrellisClasses == shaken_class ? at.shaken : at.plain);
      const int x = TrellisScaled(Target(ring, position), factors[TokenOf(ring, position)]);
      return x < -kTrellisMaxInput ? -kTrellisMaxInput
                                   : x < kTrellisMaxInput ? x : kTrellisMaxInput;
    };
    const uint32_t ends = rings.Lap(
        [&](int position, int& first, int& second) {
          first = input(0, position);
          second = input(1, position);
        },
        metrics);
#pragma unroll
    for (int ring = 0; ring < 2; ++ring) {
      RingCode& code = codes[ring];
      code = {};
      code.coded = rings.Follow(ends >> (16 * ring) & 0xffffu, ring);
      uint32_t parities[kTrellisMaxParities];
      Rings::Parities(code.coded, parities);
#pragma unroll
      for (int position = 0; position < kUnitCodes; ++position) {
        const uint32_t parity = Rings::ParityAt(parities, position);
        const uint32_t free =
            rings.CostsOf(input(ring, position)).of[parity] >> kTrellisFreeShift;
        code.levels.Set(position, Shared<int8_t>(at.levels)[parity * Rings::kFree + free]);
      }
    }
  }

  // Rings that come no nearer to the targets than the best ones go back to these.
  TQ_DEVICE void KeepBetterRings(const RingCode (&best)[2], RingCode (&codes)[2]) const {
    for (int token = ThreadId(); token < Tokens(); token += BlockThreads()) {
      Shared<int>(at.judged)[token] =
          GainOf(Shared<int>(at.products)[token], Shared<int>(at.squares)[token]) *
          kTrellisJudgeGrid;
      ClearSums(token);
    }
    SyncThreads();
#pragma unroll
    for (int ring = 0; ring < 2; ++ring) {
      int nearer = 0;
#pragma unroll
      for (int position = 0; position < kUnitCodes; ++position) {
        const int target = TrellisScaled(Target(ring, position),
                                         Shared<int>(at.judged)[TokenOf(ring, position)]);
        const int level = codes[ring].levels.At(position), old = best[ring].levels.At(position);
        nearer += (level - old) * (2 * target - kTrellisJudgeGrid * (level + old));
      }
      if (nearer <= 0) codes[ring] = best[ring];
    }
  }

  // Groups that what was encoded last serves better keep it.
  TQ_DEVICE void AcceptBetter(bool first, const RingCode (&codes)[2], RingCode (&best)[2]) const {
    const TrellisGroups groups = Groups();
    float* scores = Shared<float>(at.scores);
    for (int token = ThreadId(); token < Tokens(); token += BlockThreads()) {
      const auto product = static_cast<float>(Shared<int>(at.products)[token]);
      const int square = Shared<int>(at.squares)[token];
      scores[token] =
          square > 0 ? DivRn(MulRn(product, product), static_cast<float>(square)) : 0.0f;
    }
    SyncThreads();
    float* best_scores = Shared<float>(at.best_scores);
    int* better = Shared<int>(at.better);
    for (int group = ThreadId(); group < groups.count(); group += BlockThreads()) {
      float sum = 0;
      for (int token = 0; token < Tokens(); ++token) {
        const float with = AddRn(sum, scores[token]);
        sum = groups.OfToken(token) == group ? with : sum;
      }
      better[group] = first || sum > best_scores[group];
      if (better[group] != 0) best_scores[group] = sum;
    }
    SyncThreads();
    for (int token = ThreadId(); token < Tokens(); token += BlockThreads()) {
      if (better[groups.OfToken(token)] != 0) {
        Shared<int>(at.best_products)[token] = Shared<int>(at.products)[token];
        Shared<int>(at.best_squares)[token] = Shared<int>(at.squares)[token];
      }
      ClearSums(token);
    }
#pragma unroll
    for (int ring = 0; ring < 2; ++ring) {
      if (better[groups.OfUnit(LaneId(), Unit(ring))] != 0) best[ring] = codes[ring];
    }
    SyncThreads();
  }

  TQ_DEVICE void WriteWords(const RingCode (&best)[2]) const {
    std::byte* out = sealed + to.CodesOffset(tile);
#pragma unroll
    for (int ring = 0; ring < 2; ++ring) {
      uint32_t words[kBits] = {best[ring].coded}, parities[kTrellisMaxParities];
      Rings::Parities(best[ring].coded, parities);
#pragma unroll
      for (int position = 0; position < kUnitCodes; ++position) {
        const int8_t* levels = Shared<int8_t>(at.levels) +
                               Rings::ParityAt(parities, position) * Rings::kFree;
        uint32_t free = 0;
#pragma unroll
        for (int f = 1; f < Rings::kFree; ++f) {
          if (levels[f] == best[ring].levels.At(position)) free = static_cast<uint32_t>(f);
        }
        SetFreeBits(kBits, words, position % 4 * 8 + position / 4, free);
      }
#pragma unroll
      for (int w = 0; w < kBits; ++w) {
        *reinterpret_cast<uint32_t*>(out + WordOffset(Layout(), kBits, LaneId(), Unit(ring), w)) =
            words[w];
      }
    }
  }

  TQ_DEVICE void Run() const {
    const Trellis& trellis = keys ? p.k_trellis : p.v_trellis;
    for (int i = ThreadId(); i < Rings::kParities * Rings::kFree; i += BlockThreads()) {
      Shared<int8_t>(at.levels)[i] = static_cast<int8_t>(trellis.Level(
          static_cast<uint32_t>(i % Rings::kFree), static_cast<uint32_t>(i / Rings::kFree)));
    }
    for (int i = ThreadId(); i < kTrellisInputs; i += BlockThreads()) {
      Shared<TrellisCosts>(at.costs)[i] = trellis_costs[kBits - 2][i];
    }
    LoadTargets();
    typename Rings::Metrics metrics = {};
    RingCode best[2] = {};
    const int shakes = p.rounds * kTrellisClasses;
#pragma unroll 1
    for (int i = 0; i < p.gain_count + shakes; ++i) {
      const int shaken = i - p.gain_count;
      SetFactors(shaken < 0 ? p.gains[i] : 0,
                 TrellisShake(kBits, shaken / kTrellisClasses, p.rounds));
      RingCode codes[2];
      Encode(shaken < 0 ? -1 : shaken % kTrellisClasses, metrics, codes);
      SumLevels(codes);
      SyncThreads();
      if (i > 0) {
        KeepBetterRings(best, codes);
        SumLevels(codes);
        SyncThreads();
      }
      AcceptBetter(i == 0, codes, best);
    }
    WriteWords(best);
    for (int token = ThreadId(); token < Tokens(); token += BlockThreads()) {
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
TQ_KERNEL(TrellisThreads(kDim != 0 ? kDim : 512), kDim != 0 ? 4 : 1)
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
                                               MakeTrellisMemory(tile.head_dim)};
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

TrellisCostsKernelFn TrellisCostsKernelOf() { return TrellisCostsKernel; }

SealKernelFn TrellisSealKernelOf(int head_dim, int bits) {
  return head_dim == 128 ? OfBits<128>(bits) : OfBits<0>(bits);
}

}  // namespace tq::cuda
