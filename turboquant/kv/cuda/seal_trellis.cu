// SPDX-License-Identifier: Apache-2.0
// One side of a tile to trellis codes, the search of codec/cpu/trellis_tile.inl: a block per tile,
// two rings per thread, whose metrics and codes stay in its registers.
#include "turboquant/codec/cuda/page_ops.cuh"
#include "turboquant/codec/cuda/trellis_ring.cuh"
#include "turboquant/kv/cuda/page_params.h"
#include "turboquant/kv/cuda/sealed_levels.cuh"

namespace tq::cuda {
namespace {

// By bits - 2.
TQ_DEVICE_DATA TrellisCosts trellis_costs[3][kTrellisInputs];

TQ_KERNEL(kTrellisCostsThreads, 1)
TrellisCostsKernel(const TQ_GRID_CONSTANT Trellis trellis) {
  const int index = BlockId() * Threads() + ThreadId();
  if (index >= kTrellisInputs) return;
  trellis_costs[trellis.bits - 2][index] = TrellisCostsOf(trellis, index - kTrellisMaxInput);
}

// Ring positions in an order in which values of the same token mostly follow each other.
constexpr int OrderedPosition(int i) { return i / 8 * 4 + i / 4 % 2 + i / 2 % 2 * 16 + i % 2 * 2; }

// Levels of a ring, a byte a position.
struct RingLevels {
  uint32_t words[kUnitCodes / 4];
  TQ_DEVICE int At(int p) const {
    const uint32_t byte = static_cast<uint32_t>(p) % 4;
    return static_cast<int>(Prmt(words[p / 4], 0, 0x8880u + byte * 0x1111u));  // its sign above it
  }
  TQ_DEVICE void Set(int p, int level) {
    const int nibble = p % 4 * 4;
    words[p / 4] = Prmt(words[p / 4], static_cast<uint32_t>(level),
                        (0x3210u & ~(15u << nibble)) | 4u << nibble);
  }
};
struct RingCode {
  uint32_t coded;
  RingLevels levels;
};

// What the compiler may know of a tile side.
template <Side kSide>
struct FixedGroups {
  static constexpr bool kKnown = true;
  static constexpr TrellisGroups kGroups{MakeTileLayout(128), kSide};
  TQ_DEVICE explicit FixedGroups(const TrellisGroups&) {}
  TQ_DEVICE TrellisGroups operator()() const { return kGroups; }
};
struct AnyGroups {
  static constexpr bool kKnown = false;
  TrellisGroups groups;
  TQ_DEVICE explicit AnyGroups(const TrellisGroups& g) : groups(g) {}
  TQ_DEVICE TrellisGroups operator()() const { return groups; }
};

template <class GroupsOf, int kBits>
struct TrellisSealer {
  using Rings = RingPair<kBits>;

  const SealParams& p;
  const TileSide& from;
  const TileSide& to;
  const std::byte* open;
  std::byte* sealed;
  GroupsOf groups_of;
  int tile;
  TrellisMemory at;

  template <typename T>
  TQ_DEVICE T* Shared(int offset) const {
    return reinterpret_cast<T*>(SharedMemory() + offset);
  }
  TQ_DEVICE TrellisGroups Groups() const { return groups_of(); }
  TQ_DEVICE bool Keys() const { return Groups().side == Side::kKey; }
  TQ_DEVICE TileLayout Layout() const { return Groups().tile; }
  TQ_DEVICE int Dims() const { return Layout().head_dim; }
  TQ_DEVICE int Tokens() const { return Layout().tokens; }
  TQ_DEVICE int BlockThreads() const { return Layout().units * 16; }
  // This thread's rings: the same lane of two units.
  TQ_DEVICE int Unit(int ring) const { return ThreadId() / 32 + ring * (Layout().units / 2); }
  TQ_DEVICE int TokenOf(int ring, int position) const {
    const int row = GroupsOf::kKnown ? Groups().TokenOfCode(Unit(ring), CodeAt(position))
                                     : Shared<uint8_t>(at.rows)[Unit(ring) * kUnitCodes + position];
    return row + Groups().TokenOfLane(LaneId());
  }

  // Levels of a page that was sealed at more bits.
  TQ_DEVICE int8_t* SealedLevels() const { return Shared<int8_t>(at.origins); }
  // A code decoded, less the new reference.
  TQ_DEVICE float Decoded(int token, int d) const {
    const int8_t level = from.bits == 8
                             ? static_cast<int8_t>(open[ByteOf8(from, tile * Tokens() + token, d)])
                             : SealedLevels()[token * Dims() + d];
    const float x = ValueOfLevel(level, LevelRest(from), Shared<float>(at.scales)[token]);
    if (!Keys()) return x;
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
    for (int i = ThreadId(); i < Layout().units * kUnitCodes; i += BlockThreads()) {
      Shared<uint8_t>(at.rows)[i] =
          static_cast<uint8_t>(Groups().TokenOfCode(i / kUnitCodes, CodeAt(i % kUnitCodes)));
    }
    if (from.bits != 8) {
      UnpackLevels(from, Layout(), open, tile, 1, SealedLevels());
      SyncThreads();
    }
    for (int token = WarpId(); token < Tokens(); token += BlockThreads() / 32) {
      if (LaneId() == 0) {
        Shared<float>(at.scales)[token] =
            ReadHalf(open + from.ScaleOffset(tile * Tokens() + token));
      }
      SyncWarp();
      const float norm = SqrtRn(SumOfSquares(token));
      if (LaneId() == 0) {
        Shared<float>(at.norms)[token] = norm;
        Shared<float>(at.factors)[token] = norm > 0 ? DivRn(Keys() ? p.k_gain : p.v_gain, norm) : 0;
        ClearSums(token);
      }
    }
    SyncThreads();
    const TrellisGroups groups = Groups();
#pragma unroll 1
    for (int i = 0; i < 2 * kUnitCodes; ++i) {
      const int ring = i % 2, position = i / 2, token = TokenOf(ring, position);
      const int d = groups.DimOfCode(Unit(ring), CodeAt(position)) + groups.DimOfLane(LaneId());
      const float y = MulRn(Decoded(token, d), Shared<float>(at.factors)[token]);
      Shared<int16_t>(at.targets)[(position * BlockThreads() + ThreadId()) * 2 + ring] =
          static_cast<int16_t>(RoundToInt(Clamp(MulRn(y, static_cast<float>(kTrellisTargetGrid)),
                                                static_cast<float>(kTrellisMaxTarget))));
    }
  }

  struct Pair {
    int of[2];  // rings
  };
  TQ_DEVICE Pair Targets(int position) const {
    const uint32_t both = Shared<uint32_t>(at.targets)[position * BlockThreads() + ThreadId()];
    return {{static_cast<int16_t>(both), static_cast<int>(both) >> 16}};
  }
  // Targets at the factors of their tokens.
  TQ_DEVICE Pair Scaled(int position, const int* factors) const {
    const Pair targets = Targets(position);
    return {{TrellisScaled(targets.of[0], factors[TokenOf(0, position)]),
             TrellisScaled(targets.of[1], factors[TokenOf(1, position)])}};
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
      const Pair targets = Targets(position);
#pragma unroll
      for (int ring = 0; ring < 2; ++ring) {
        const int level = codes[ring].levels.At(position);
        sums[ring].product += targets.of[ring] * level;
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
    const float gain = DivRn(MulRn(kOne, static_cast<float>(square)), static_cast<float>(product));
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
    const auto inputs = [&](int position) {
      Pair x = Scaled(
          position, Shared<int>(position % kTrellisClasses == shaken_class ? at.shaken : at.plain));
      for (int& input : x.of) {
        input = input < kTrellisMaxInput ? input : kTrellisMaxInput;
        input = input > -kTrellisMaxInput ? input : -kTrellisMaxInput;
      }
      return x;
    };
    const uint32_t ends = rings.Lap(inputs, metrics);
    uint32_t parities[2][kTrellisMaxParities];
#pragma unroll
    for (int ring = 0; ring < 2; ++ring) {
      codes[ring] = {rings.Follow(ends >> (16 * ring) & 0xffffu, ring), {}};
      Rings::Parities(codes[ring].coded, parities[ring]);
    }
#pragma unroll
    for (int position = 0; position < kUnitCodes; ++position) {
      const Pair x = inputs(position);
#pragma unroll
      for (int ring = 0; ring < 2; ++ring) {
        const uint32_t parity = Rings::ParityAt(parities[ring], position);
        const uint32_t free = rings.CostsOf(x.of[ring]).of[parity] >> kTrellisFreeShift;
        codes[ring].levels.Set(position, Shared<int8_t>(at.levels)[parity * Rings::kFree + free]);
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
    int nearer[2] = {};
#pragma unroll
    for (int position = 0; position < kUnitCodes; ++position) {
      const Pair targets = Scaled(position, Shared<int>(at.judged));
#pragma unroll
      for (int ring = 0; ring < 2; ++ring) {
        const int level = codes[ring].levels.At(position), old = best[ring].levels.At(position);
        nearer[ring] += (level - old) * (2 * targets.of[ring] - kTrellisJudgeGrid * (level + old));
      }
    }
#pragma unroll
    for (int ring = 0; ring < 2; ++ring) {
      if (nearer[ring] <= 0) codes[ring] = best[ring];
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
        const int8_t* levels =
            Shared<int8_t>(at.levels) + Rings::ParityAt(parities, position) * Rings::kFree;
        uint32_t free = 0;
#pragma unroll
        for (int f = 1; f < Rings::kFree; ++f) {
          if (levels[f] == best[ring].levels.At(position)) free = static_cast<uint32_t>(f);
        }
        SetFreeBits(kBits, words, CodeAt(position), free);
      }
#pragma unroll
      for (int w = 0; w < kBits; ++w) {
        *reinterpret_cast<uint32_t*>(out + WordOffset(Layout(), kBits, LaneId(), Unit(ring), w)) =
            words[w];
      }
    }
  }

  TQ_DEVICE void Run() const {
    const Trellis& trellis = Keys() ? p.k_trellis : p.v_trellis;
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
      WriteScale(to, Keys() ? p.sealed.v.rows : p.sealed.k.rows, sealed, tile * Tokens() + token,
                 FiniteHalf(scale));
    }
  }
};

// The side of every job that this launch is for; its reference is written already. The kernel of
// the other side may run beside this one: it ends no sooner than the one before.
template <class GroupsOf, int kBits, int kThreads, int kBlocks>
TQ_KERNEL(kThreads, kBlocks)
TrellisSealKernel(const TQ_GRID_CONSTANT SealParams p) {
  LetNextStart();
  const bool keys = p.trellis_side == Side::kKey;
  const TileSide& to = keys ? p.sealed.k : p.sealed.v;
  const int tiles = to.tile.tiles_per_page();
  const SealJob& job = p.jobs[BlockId() / tiles];
  if (job.side == p.trellis_side) {
    const TrellisSealer<GroupsOf, kBits> sealer = {p,
                                                   keys ? p.open.k : p.open.v,
                                                   to,
                                                   p.arena + job.open_offset,
                                                   p.arena + job.sealed_offset,
                                                   GroupsOf(TrellisGroups(to.tile, job.side)),
                                                   BlockId() % tiles,
                                                   MakeTrellisMemory(to.tile.head_dim)};
    sealer.Run();
  }
  WaitForInputs();
}

template <class GroupsOf, int kThreads, int kBlocks>
SealKernelFn OfBits(int bits) {
  return bits == 2   ? TrellisSealKernel<GroupsOf, 2, kThreads, kBlocks>
         : bits == 3 ? TrellisSealKernel<GroupsOf, 3, kThreads, kBlocks>
                     : TrellisSealKernel<GroupsOf, 4, kThreads, kBlocks>;
}
// Four blocks' memory fits a multiprocessor.
template <Side kSide>
SealKernelFn Fixed(int bits) {
  return OfBits<FixedGroups<kSide>, TrellisThreads(128), 4>(bits);
}

}  // namespace

TrellisCostsKernelFn TrellisCostsKernelOf() { return TrellisCostsKernel; }

SealKernelFn TrellisSealKernelOf(int head_dim, Side side, int bits) {
  if (head_dim != 128) return OfBits<AnyGroups, TrellisThreads(512), 1>(bits);
  return side == Side::kKey ? Fixed<Side::kKey>(bits) : Fixed<Side::kValue>(bits);
}

}  // namespace tq::cuda
