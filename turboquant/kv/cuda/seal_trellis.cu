// SPDX-License-Identifier: Apache-2.0
// One side of tiles to trellis codes, the search of codec/cpu/trellis_tile.inl: two rings per
// thread, whose metrics stay in its registers; all else is in shared memory, in words of four ring
// positions.
#include "turboquant/codec/cuda/page_ops.cuh"
#include "turboquant/codec/cuda/ring_words.cuh"
#include "turboquant/codec/cuda/trellis_ring.cuh"
#include "turboquant/kv/cuda/page_params.h"
#include "turboquant/kv/cuda/sealed_levels.cuh"
#include "turboquant/kv/cuda/trellis_groups.cuh"
#include "turboquant/kv/cuda/trellis_memory.h"

namespace tq::cuda {
namespace {

// By bits - 2: bytes [input][parity], a cost and a level each.
constexpr int kTableBytes = ((kTrellisInputs << kTrellisMaxParities) + 15) / 16 * 16;
struct alignas(16) TrellisTable {
  uint8_t costs[kTableBytes];
  int8_t levels[kTableBytes];
};
TQ_DEVICE_DATA TrellisTable trellis_tables[3];

TQ_KERNEL(kTrellisCostsThreads, 1)
TrellisCostsKernel(const TQ_GRID_CONSTANT Trellis trellis) {
  const int input = BlockId() * Threads() + ThreadId();
  if (input >= kTrellisInputs) return;
  const TrellisCosts costs = TrellisCostsOf(trellis, input - kTrellisMaxInput);
  TrellisTable& table = trellis_tables[trellis.bits - 2];
  for (int z = 0; z < 1 << trellis.parities; ++z) {
    const int at = (input << trellis.parities) + z;
    table.costs[at] = static_cast<uint8_t>((costs.of[z] & kTrellisCostMask) >> kTrellisMetricShift);
    table.levels[at] = static_cast<int8_t>(
        trellis.Level(costs.of[z] >> kTrellisFreeShift, static_cast<uint32_t>(z)));
  }
}

template <class GroupsOf, int kBits>
struct TrellisSealer {
  using Rings = RingPair<kBits>;
  static constexpr int kFree = 1 << TrellisOfBits(kBits).free_bits();
  static constexpr int kParts = GroupsOf::kParts;

  const SealParams& p;
  const TileSide& from;
  const TileSide& to;
  const std::byte* open;
  std::byte* sealed;
  GroupsOf groups_of;
  int first_tile;
  TrellisMemory at;

  template <typename T>
  TQ_DEVICE T* Shared(int offset) const {
    return reinterpret_cast<T*>(SharedMemory() + offset);
  }
  TQ_DEVICE TrellisGroups Groups() const { return groups_of(); }
  TQ_DEVICE bool Keys() const { return Groups().side == Side::kKey; }
  TQ_DEVICE TileLayout Layout() const { return Groups().tile; }
  TQ_DEVICE int Dims() const { return Layout().head_dim; }
  TQ_DEVICE int TileThreads() const { return TrellisTileThreads(Layout()); }
  TQ_DEVICE int Tiles() const { return TrellisTiles(Layout()); }
  TQ_DEVICE int BlockThreads() const { return TrellisThreads(Layout()); }
  TQ_DEVICE int Tokens() const { return Tiles() * Layout().tokens; }
  // Threads of a tile, in step from its first encoding on.
  TQ_DEVICE void SyncTile() const {
    if (Tiles() == 1) {
      SyncThreads();
    } else {
      SyncSome(1 + Tile(), TileThreads());
    }
  }
  // This thread's rings: the same lane of two units of a tile.
  TQ_DEVICE int Tile() const { return Tiles() == 1 ? 0 : ThreadId() / TileThreads(); }
  TQ_DEVICE int Unit(int ring) const {
    return (ThreadId() - Tile() * TileThreads()) / 32 + ring * (Layout().units / 2);
  }
  // Of element e of word w.
  TQ_DEVICE int TokenOf(int ring, int w, int e) const {
    const int row = GroupsOf::kKnown
                        ? Groups().TokenOfCode(Unit(ring), 8 * e + w)
                        : Shared<uint8_t>(at.rows)[Unit(ring) * kUnitCodes + 4 * w + e];
    return row + Groups().TokenOfLane(LaneId()) + Tile() * Layout().tokens;
  }
  TQ_DEVICE int GroupOfRing(int ring) const {
    return Groups().OfUnit(LaneId(), Unit(ring)) + Tile() * Groups().count();
  }
  // Of all tiles, by all threads; of this one, by its threads.
  template <typename Fn>
  TQ_DEVICE void ForTokens(const Fn& fn) const {
    for (int token = ThreadId(); token < Tokens(); token += BlockThreads()) fn(token);
  }
  template <typename Fn>
  TQ_DEVICE void ForTileTokens(const Fn& fn) const {
    const int first = Tile() * Layout().tokens, thread = ThreadId() - Tile() * TileThreads();
    for (int n = thread; n < Layout().tokens; n += TileThreads()) fn(first + n);
  }

  // Before the first lap: levels of the tiles' tokens, and of keys the references [D] of the page
  // as it was and as it will be.
  TQ_DEVICE int8_t* OldLevels() const { return Shared<int8_t>(at.ring_words); }
  TQ_DEVICE float2* References() const { return Shared<float2>(at.ring_words + Tokens() * Dims()); }
  TQ_DEVICE int TokenOfPage(int token) const { return first_tile * Layout().tokens + token; }
  // A code decoded, less the new reference.
  TQ_DEVICE float Decoded(int token, int d) const {
    const float x = ValueOfLevel(OldLevels()[token * Dims() + d], LevelRest(from),
                                 Shared<float>(at.scales)[token]);
    if (!Keys()) return x;
    const float2 reference = References()[d];
    return SubRn(AddRn(x, reference.x), reference.y);
  }
  struct Extent {
    float squares, most;  // sum; greatest magnitude
  };
  // 16 strided sums, then a tree: the order that the format fixes.
  TQ_DEVICE Extent ExtentOf(int token) const {
    Extent e = {};
#pragma unroll 8
    for (int d = LaneId() & 15; d < Dims(); d += 16) {
      const float x = Decoded(token, d), magnitude = x < 0 ? -x : x;
      e.squares = AddRn(e.squares, MulRn(x, x));
      e.most = magnitude > e.most ? magnitude : e.most;
    }
#pragma unroll
    for (int width = 8; width > 0; width /= 2) {
      e.squares = AddRn(e.squares, ShuffleXor(e.squares, width));
      const float other = ShuffleXor(e.most, width);
      e.most = other > e.most ? other : e.most;
    }
    return e;
  }
  // x times its vector's factor.
  TQ_DEVICE static int Target(float x, float factor) {
    constexpr float kGrid = kTrellisTargetGrid, kMost = kTrellisMaxTarget;
    return RoundToInt(Clamp(MulRn(MulRn(x, factor), kGrid), kMost));
  }

  TQ_DEVICE void LoadTables() const {
    const Trellis& trellis = Keys() ? p.k_trellis : p.v_trellis;
    for (int i = ThreadId(); i < Rings::kParities * kFree; i += BlockThreads()) {
      Shared<int8_t>(at.free_levels)[i] = static_cast<int8_t>(
          trellis.Level(static_cast<uint32_t>(i % kFree), static_cast<uint32_t>(i / kFree)));
    }
    const TrellisTable& table = trellis_tables[kBits - 2];
    constexpr int kWhole = kTrellisInputs * Rings::kParities / 16;  // 16 bytes at a time
#pragma unroll 4
    for (int i = ThreadId(); i < kWhole; i += BlockThreads()) {
      Shared<uint4>(at.costs)[i] = reinterpret_cast<const uint4*>(table.costs)[i];
      Shared<uint4>(at.levels)[i] = reinterpret_cast<const uint4*>(table.levels)[i];
    }
    for (int i = 16 * kWhole + ThreadId(); i < kTrellisInputs * Rings::kParities;
         i += BlockThreads()) {
      Shared<uint8_t>(at.costs)[i] = table.costs[i];
      Shared<int8_t>(at.levels)[i] = table.levels[i];
    }
    for (int i = ThreadId(); i < Layout().units * kUnitCodes; i += BlockThreads()) {
      Shared<uint8_t>(at.rows)[i] =
          static_cast<uint8_t>(Groups().TokenOfCode(i / kUnitCodes, CodeAt(i % kUnitCodes)));
    }
  }

  // Words of this thread's two rings, their threads beside each other.
  struct TargetWords {
    HalfWords of[2];
  };
  TQ_DEVICE uint4& TargetsAt(int w) const {
    return Shared<uint4>(at.targets)[w * BlockThreads() + ThreadId()];
  }
  TQ_DEVICE TargetWords Targets(int w) const {
    const uint4 words = TargetsAt(w);
    return {{{words.x, words.y}, {words.z, words.w}}};
  }
  TQ_DEVICE uint2& BestLevelsAt(int w) const {
    return Shared<uint2>(at.best_levels)[w * BlockThreads() + ThreadId()];
  }
  TQ_DEVICE Rings RingsHere() const {
    return {SharedMemory() + at.costs, SharedMemory() + at.ring_words + ThreadId() * 4,
            BlockThreads() * 4};
  }
  TQ_DEVICE uint32_t& NewLevelsAt(int w, int ring) const { return RingsHere().Word(2 * w + ring); }
  struct LevelWords {
    uint32_t of[2];
  };
  TQ_DEVICE LevelWords BestLevels(int w) const {
    const uint2 words = BestLevelsAt(w);
    return {{words.x, words.y}};
  }
  TQ_DEVICE LevelWords NewLevels(int w) const { return {{NewLevelsAt(w, 0), NewLevelsAt(w, 1)}}; }

  TQ_DEVICE void LoadTargets() const {
    UnpackLevels(from, Layout(), open, first_tile, Tiles(), OldLevels());
    if (Keys()) {
      for (int d = ThreadId(); d < Dims(); d += BlockThreads()) {
        References()[d] = {ReadHalf(open + p.open.reference_offset + 2 * d),
                           ReadHalf(sealed + p.sealed.reference_offset + 2 * d)};
      }
    }
    ForTokens([&](int token) {
      Shared<float>(at.scales)[token] = ReadHalf(open + from.ScaleOffset(TokenOfPage(token)));
      ClearSums(token);
    });
    SyncThreads();
    for (int token = WarpId(); token < Tokens(); token += BlockThreads() / 32) {
      const Extent extent = ExtentOf(token);
      const float norm = SqrtRn(extent.squares);
      if (LaneId() == 0) {
        const float factor = norm > 0 ? DivRn(Keys() ? p.k_gain : p.v_gain, norm) : 0;
        Shared<float>(at.norms)[token] = norm;
        Shared<float>(at.factors)[token] = factor;
        Shared<int>(at.first_gains)[token] = p.moves.FirstGain(Target(extent.most, factor));
      }
    }
    SyncThreads();
    const TrellisGroups groups = Groups();
    const int first_dim = groups.DimOfLane(LaneId());
#pragma unroll 1
    for (int w = 0; w < kRingWordCount; ++w) {
      HalfWords words[2];
#pragma unroll
      for (int ring = 0; ring < 2; ++ring) {
        uint32_t targets[4];
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int token = TokenOf(ring, w, e);
          const int d = groups.DimOfCode(Unit(ring), 8 * e + w) + first_dim;
          targets[e] =
              static_cast<uint32_t>(Target(Decoded(token, d), Shared<float>(at.factors)[token]));
        }
        words[ring] = {PackLower(targets[0], targets[2]), PackLower(targets[1], targets[3])};
      }
      TargetsAt(w) = {words[0].even, words[0].odd, words[1].even, words[1].odd};
    }
  }

  TQ_DEVICE void ClearSums(int token) const {
    Shared<int>(at.products)[token] = Shared<int>(at.squares)[token] = 0;
  }
  TQ_DEVICE void AddTo(int token, int product, int square) const {
    AtomicAdd(Shared<uint32_t>(at.products) + token, static_cast<uint32_t>(product));
    AtomicAdd(Shared<uint32_t>(at.squares) + token, static_cast<uint32_t>(square));
  }
  struct TokenSum {
    int product, square;
  };
  TQ_DEVICE void AddTo(int token, int other, const TokenSum& sum, const TokenSum& of_other) const {
    if (token == other) {
      AddTo(token, sum.product + of_other.product, sum.square + of_other.square);
    } else {
      AddTo(token, sum.product, sum.square);
      AddTo(other, of_other.product, of_other.square);
    }
  }
  // Which rings of this thread the best code serves better than the new one.
  using Best = bool[2];

  // Where the compiler knows the tokens of rings: what they add to each one's sums. They are made
  // once for a code and kept as long as it is.
  template <int kTokens>
  struct RingSums {
    int products[2][kTokens], squares[2][kTokens];
  };
  template <int kTokens>
  TQ_DEVICE RingSums<kTokens> SumRings() const {
    constexpr RingTokens kOfRing = GroupsOf::kTokens;
    RingSums<kTokens> sums = {};
#pragma unroll
    for (int w = 0; w < kRingWordCount; ++w) {
      const TargetWords targets = Targets(w);
      const LevelWords levels = NewLevels(w);
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        const int i = kOfRing.of[4 * w + part];
#pragma unroll
        for (int ring = 0; ring < 2; ++ring) {
          AddPart<kParts>(targets.of[ring], levels.of[ring], part, sums.products[ring][i],
                          sums.squares[ring][i]);
        }
      }
    }
    return sums;
  }
  template <int kTokens>
  TQ_DEVICE void Judge(const RingSums<kTokens>& best_sums, RingSums<kTokens>& sums,
                       Best& best) const {
    constexpr RingTokens kOfRing = GroupsOf::kTokens;
#pragma unroll
    for (int ring = 0; ring < 2; ++ring) {
      int64_t nearer = 0;
      int square = 0;
#pragma unroll
      for (int i = 0; i < kTokens; ++i) {
        const int token = TokenOf(ring, kOfRing.first[i] / 4, kOfRing.first[i] % 4);
        nearer += int64_t{sums.products[ring][i] - best_sums.products[ring][i]} * TwiceGain(token);
        square += sums.squares[ring][i] - best_sums.squares[ring][i];
      }
      best[ring] = nearer <= int64_t{square} * kTrellisJudgeGrid;
#pragma unroll
      for (int i = 0; i < kTokens; ++i) {
        if (best[ring]) sums.products[ring][i] = best_sums.products[ring][i];
        if (best[ring]) sums.squares[ring][i] = best_sums.squares[ring][i];
      }
    }
  }
  template <int kTokens>
  TQ_DEVICE void AddToTokens(const RingSums<kTokens>& sums) const {
    constexpr RingTokens kOfRing = GroupsOf::kTokens;
    if constexpr (GroupsOf::kGroups.side == Side::kKey) {
#pragma unroll
      for (int i = 0; i < kTokens; ++i) {
        const int w = kOfRing.first[i] / 4, e = kOfRing.first[i] % 4;
        AddTo(TokenOf(0, w, e), TokenOf(1, w, e), {sums.products[0][i], sums.squares[0][i]},
              {sums.products[1][i], sums.squares[1][i]});
      }
    } else {
      // Both rings of the eight lanes that differ in lane / 4 have the same tokens. The lanes add
      // up what all have, each for an eighth of the tokens.
      static_assert([=] {
        for (int i = 0; i < kTokens; ++i) {
          if (kOfRing.first[i] != i / kParts * 4 + i % kParts) return false;
        }
        return true;
      }());
      int both[2 * kTokens];
#pragma unroll
      for (int i = 0; i < kTokens; ++i) {
        both[2 * i] = sums.products[0][i] + sums.products[1][i];
        both[2 * i + 1] = sums.squares[0][i] + sums.squares[1][i];
      }
      const int first = ShareSums<16>(both);
#pragma unroll
      for (int i = 0; i < kTokens / 8; ++i) {
        const int token = first + i;  // not known when compiled: no look-up
        AddTo(TokenOf(0, token / kParts, token % kParts), both[2 * i], both[2 * i + 1]);
      }
    }
  }
  // Sums of all lanes that differ in the bits of kLanes and below, down to 4: each lane keeps one
  // half of them, then of these. Gives the token of the first that is left.
  template <int kLanes, int kSums>
  TQ_DEVICE static int ShareSums(int (&sums)[kSums]) {
    if constexpr (kLanes < 4) {
      return 0;
    } else {
      constexpr int kHalf = kSums / 2;
      const bool upper = (LaneId() & kLanes) != 0;
      int half[kHalf];
#pragma unroll
      for (int i = 0; i < kHalf; ++i) {
        const int other = ShuffleXor(upper ? sums[i] : sums[i + kHalf], kLanes);
        half[i] = (upper ? sums[i + kHalf] : sums[i]) + other;
      }
      const int first = ShareSums<kLanes / 2>(half);
#pragma unroll
      for (int i = 0; i < kHalf; ++i) sums[i] = half[i];
      return first + (upper ? kHalf / 2 : 0);
    }
  }

  // Where it does not: the same, token by token, from levels in shared memory.
  TQ_DEVICE void JudgeByParts(Best& best) const {
    int64_t nearer[2] = {};
#pragma unroll 1
    for (int w = 0; w < kRingWordCount; ++w) {
      const TargetWords targets = Targets(w);
      const LevelWords now = NewLevels(w), old = BestLevels(w);
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
#pragma unroll
        for (int ring = 0; ring < 2; ++ring) {
          int product = 0, square = 0, old_product = 0, old_square = 0;
          AddPart<kParts>(targets.of[ring], now.of[ring], part, product, square);
          AddPart<kParts>(targets.of[ring], old.of[ring], part, old_product, old_square);
          nearer[ring] +=
              int64_t{product - old_product} * TwiceGain(TokenOf(ring, w, part)) -
              int64_t{square - old_square} * kTrellisJudgeGrid;
        }
      }
    }
#pragma unroll
    for (int ring = 0; ring < 2; ++ring) best[ring] = nearer[ring] <= 0;
  }
  TQ_DEVICE void AddToTokensByParts(const Best& best) const {
    int tokens[2] = {TokenOf(0, 0, 0), TokenOf(1, 0, 0)};
    TokenSum sums[2] = {};
#pragma unroll 1
    for (int part = 0; part < kParts; ++part) {  // a part's token changes rarely
#pragma unroll 1
      for (int w = 0; w < kRingWordCount; ++w) {
        const int next[2] = {TokenOf(0, w, part), TokenOf(1, w, part)};
        if (next[0] != tokens[0] || next[1] != tokens[1]) {
          AddTo(tokens[0], tokens[1], sums[0], sums[1]);
#pragma unroll
          for (int ring = 0; ring < 2; ++ring) tokens[ring] = next[ring], sums[ring] = {};
        }
        const TargetWords targets = Targets(w);
        const LevelWords now = NewLevels(w), old = BestLevels(w);
#pragma unroll
        for (int ring = 0; ring < 2; ++ring) {
          AddPart<kParts>(targets.of[ring], best[ring] ? old.of[ring] : now.of[ring], part,
                          sums[ring].product, sums[ring].square);
        }
      }
    }
    AddTo(tokens[0], tokens[1], sums[0], sums[1]);
  }

  // The gain at which a vector's code fits it best.
  TQ_DEVICE static int GainOf(int product, int square) {
    if (product <= 0) return kTrellisGainOne;
    constexpr float kOne = kTrellisTargetGrid * kTrellisGainOne;
    const float gain = DivRn(MulRn(kOne, static_cast<float>(square)), static_cast<float>(product));
    constexpr float kLeast = kTrellisMinGain, kMost = kTrellisMaxGain;
    return RoundToInt(gain < kLeast ? kLeast : gain > kMost ? kMost : gain);
  }

  // Twice the factor of a token's inputs in the encoding that comes, number `lap`.
  TQ_DEVICE void SetFactors(int token, int lap) const {
    const int own = lap == 0 ? kTrellisGainOne
                             : GainOf(Shared<int>(at.best_products)[token],
                                      Shared<int>(at.best_squares)[token]);
    const int before = lap == 0 ? own : Shared<int>(at.own_gains)[token];
    Shared<int>(at.own_gains)[token] = own;
    Shared<int>(at.inputs)[token] =
        2 * p.moves.Gain(lap, Shared<int>(at.first_gains)[token], own, before) * TrellisGrid(kBits);
  }
  // Of a token, to judge its rings by: of the encoding, and its own.
  TQ_DEVICE int TwiceGain(int token) const {
    return Shared<int>(at.inputs)[token] / (2 * TrellisGrid(kBits)) +
           Shared<int>(at.own_gains)[token];
  }
  // Factors of elements of a word, by ring.
  struct Factors {
    int of[2][4];
  };
  TQ_DEVICE void LoadFactors(int w, Factors& factors) const {
#pragma unroll
    for (int ring = 0; ring < 2; ++ring) {
#pragma unroll
      for (int e = 0; e < 4; ++e) factors.of[ring][e] = Shared<int>(at.inputs)[TokenOf(ring, w, e)];
    }
  }
  // fn(w, targets, factors) of each word; factors are the same for all where a ring has one token.
  template <typename Fn>
  TQ_DEVICE void ForWords(const Fn& fn) const {
    Factors factors;
    LoadFactors(0, factors);
#pragma unroll 4
    for (int w = 0; w < kRingWordCount; ++w) {
      if constexpr (!GroupsOf::kOneToken) LoadFactors(w, factors);
      fn(w, Targets(w), factors);
    }
  }
  TQ_DEVICE static HalfWords Scaled(const HalfWords& targets, const int (&factors)[4]) {
    return {ScaleHalves(targets.even, factors[0], factors[2]),
            ScaleHalves(targets.odd, factors[1], factors[3])};
  }

  // Table offsets of inputs.
  TQ_DEVICE static HalfWords Inputs(const HalfWords& targets, const int (&factors)[4]) {
    constexpr uint32_t kMost = kTrellisMaxInput * 0x10001u;
    const HalfWords x = Scaled(targets, factors);
    return {AddClampS16x2(x.even, kMost, 2 * kMost) * Rings::kParities,
            AddClampS16x2(x.odd, kMost, 2 * kMost) * Rings::kParities};
  }

  // One lap over both rings. Gives their coded bits, leaves their levels.
  TQ_DEVICE void Encode(typename Rings::Metrics& metrics, uint32_t (&coded)[2]) const {
    const Rings rings = RingsHere();
    ForWords([&](int w, const TargetWords& targets, const Factors& factors) {
      const HalfWords a = Inputs(targets.of[0], factors.of[0]),
                      b = Inputs(targets.of[1], factors.of[1]);
      rings.SetInputs(4 * w, PackLower(a.even, b.even));
      rings.SetInputs(4 * w + 1, PackLower(a.odd, b.odd));
      rings.SetInputs(4 * w + 2, PackUpper(a.even, b.even));
      rings.SetInputs(4 * w + 3, PackUpper(a.odd, b.odd));
    });
    rings.Follow(rings.Lap(metrics), coded);
    const RingParities<kBits> parities[2] = {RingParities<kBits>(coded[0]),
                                             RingParities<kBits>(coded[1])};
    const auto* levels = Shared<uint8_t>(at.levels);
    ForWords([&](int w, const TargetWords& targets, const Factors& factors) {
#pragma unroll
      for (int ring = 0; ring < 2; ++ring) {
        const HalfWords inputs = Inputs(targets.of[ring], factors.of[ring]);
        const uint32_t z = parities[ring].Bytes(w);
        const uint32_t even = inputs.even + Prmt(z, 0, 0x4240u),
                       odd = inputs.odd + Prmt(z, 0, 0x4341u);
        NewLevelsAt(w, ring) = PackBytes(levels[even & 0xffffu], levels[odd & 0xffffu],
                                         levels[even >> 16], levels[odd >> 16]);
      }
    });
  }

  // Groups that what was encoded last serves better keep it; factors for the encoding after it. By
  // one warp of each tile.
  TQ_DEVICE void AcceptTokens(int lap) const {
    const TrellisGroups groups = Groups();
    const int first_token = Tile() * Layout().tokens, first_group = Tile() * groups.count();
    int* products = Shared<int>(at.products) + first_token;
    int* squares = Shared<int>(at.squares) + first_token;
    float* scores = Shared<float>(at.scores) + first_token;
    float* best_scores = Shared<float>(at.best_scores) + first_group;
    int* better = Shared<int>(at.better) + first_group;
    for (int token = LaneId(); token < Layout().tokens; token += 32) {
      const auto product = static_cast<float>(products[token]);
      const auto square = static_cast<float>(squares[token]);
      scores[token] = square > 0 ? DivRn(MulRn(product, product), square) : 0.0f;
    }
    SyncWarp();
    const int group_tokens = Layout().tokens / groups.count();
    for (int group = LaneId(); group < groups.count(); group += 32) {
      float sum = 0;
#pragma unroll 8
      for (int n = 0; n < group_tokens; ++n) {
        sum = AddRn(sum, scores[groups.TokenOfGroup(group, n)]);
      }
      better[group] = lap == 0 || sum > best_scores[group];
      if (better[group] != 0) best_scores[group] = sum;
    }
    SyncWarp();
    for (int token = LaneId(); token < Layout().tokens; token += 32) {
      if (better[groups.OfToken(token)] != 0) {
        Shared<int>(at.best_products)[first_token + token] = products[token];
        Shared<int>(at.best_squares)[first_token + token] = squares[token];
      }
      ClearSums(first_token + token);
      SetFactors(first_token + token, lap + 1);
    }
  }
  // The same for this thread's rings. Says which of them are of a group that does.
  TQ_DEVICE void AcceptBetter(int lap, const Best& best, const uint32_t (&coded)[2],
                              uint32_t (&best_coded)[2], bool (&better)[2]) const {
    SyncTile();
    if (ThreadId() - Tile() * TileThreads() < 32) AcceptTokens(lap);
    SyncTile();
    bool take[2];
#pragma unroll
    for (int ring = 0; ring < 2; ++ring) {
      better[ring] = Shared<int>(at.better)[GroupOfRing(ring)] != 0;
      take[ring] = !best[ring] && better[ring];
      if (take[ring]) best_coded[ring] = coded[ring];
    }
#pragma unroll 4
    for (int w = 0; w < kRingWordCount && (take[0] || take[1]); ++w) {
      const LevelWords now = NewLevels(w), old = BestLevels(w);
      BestLevelsAt(w) = {take[0] ? now.of[0] : old.of[0], take[1] ? now.of[1] : old.of[1]};
    }
  }

  // All encodings. Leaves levels and sums of the best codes.
  TQ_DEVICE void Search(uint32_t (&best_coded)[2]) const {
    typename Rings::Metrics metrics;
    Rings::Start(metrics);
    const auto encode_all = [&](const auto& judge_and_add, const auto& keep) {
#pragma unroll 1
      for (int lap = 0; lap < p.moves.count; ++lap) {
        uint32_t coded[2];
        Encode(metrics, coded);
        Best best = {};
        judge_and_add(lap, best);
        bool better[2];
        AcceptBetter(lap, best, coded, best_coded, better);
        keep(better);
      }
    };
    if constexpr (GroupsOf::kKnown) {
      constexpr int kTokens = GroupsOf::kTokens.count;
      RingSums<kTokens> sums, best_sums = {};
      encode_all(
          [&](int lap, Best& best) {
            sums = SumRings<kTokens>();
            if (lap > 0) Judge(best_sums, sums, best);
            AddToTokens(sums);
          },
          [&](const bool (&better)[2]) {
#pragma unroll
            for (int ring = 0; ring < 2; ++ring) {
#pragma unroll
              for (int i = 0; i < kTokens; ++i) {
                if (better[ring]) best_sums.products[ring][i] = sums.products[ring][i];
                if (better[ring]) best_sums.squares[ring][i] = sums.squares[ring][i];
              }
            }
          });
    } else {
      encode_all(
          [&](int lap, Best& best) {
            if (lap > 0) JudgeByParts(best);
            AddToTokensByParts(best);
          },
          [](const bool (&)[2]) {});
    }
  }

  TQ_DEVICE void WriteWords(const uint32_t (&best_coded)[2]) const {
    std::byte* out = sealed + to.CodesOffset(first_tile + Tile());
#pragma unroll
    for (int ring = 0; ring < 2; ++ring) {
      uint32_t words[kBits] = {best_coded[ring]};
      const RingParities<kBits> parities(best_coded[ring]);
#pragma unroll 1
      for (int w = 0; w < kRingWordCount; ++w) {
        const uint32_t z = parities.Bytes(w), level_bytes = BestLevels(w).of[ring];
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int8_t* levels =
              Shared<int8_t>(at.free_levels) + (z >> (8 * e) & 255u) * static_cast<uint32_t>(kFree);
          uint32_t free = 0;
#pragma unroll
          for (int f = 1; f < kFree; ++f) {
            if (levels[f] == ByteOfWord(level_bytes, e)) free = static_cast<uint32_t>(f);
          }
          SetFreeBits(kBits, words, 8 * e + (w & 7), free);  // the word by e alone: no local memory
        }
      }
#pragma unroll
      for (int w = 0; w < kBits; ++w) {
        *reinterpret_cast<uint32_t*>(out + WordOffset(Layout(), kBits, LaneId(), Unit(ring), w)) =
            words[w];
      }
    }
  }

  TQ_DEVICE void Run() const {
    LoadTables();
    SyncThreads();  // rows
    LoadTargets();
    ForTokens([&](int token) { SetFactors(token, 0); });
    SyncThreads();
    uint32_t best_coded[2] = {};
    Search(best_coded);
    WriteWords(best_coded);
    ForTileTokens([&](int token) {
      const float length = SqrtRn(static_cast<float>(Shared<int>(at.best_squares)[token]));
      const float scale = length > 0 ? DivRn(Shared<float>(at.norms)[token], length) : 0.0f;
      WriteScale(to, Keys() ? p.sealed.v.rows : p.sealed.k.rows, sealed, TokenOfPage(token),
                 FiniteHalf(scale));
    });
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
  const int blocks = TrellisBlocksOfPage(to.tile);
  const SealJob& job = p.jobs[BlockId() / blocks];
  if (job.side == p.trellis_side) {
    const TrellisSealer<GroupsOf, kBits> sealer = {
        p,
        keys ? p.open.k : p.open.v,
        to,
        p.arena + job.open_offset,
        p.arena + job.sealed_offset,
        GroupsOf(TrellisGroups(to.tile, job.side)),
        BlockId() % blocks * TrellisTiles(to.tile),
        MakeTrellisMemory(to.tile, RingPair<kBits>::kParities)};
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
// As many blocks as memory of a multiprocessor has room for.
template <int kDim>
SealKernelFn Fixed(Side side, int bits) {
  constexpr TileLayout kTile = MakeTileLayout(kDim);
  constexpr int kThreads = TrellisThreads(kTile);
  constexpr int kBlocks =
      kTrellisMemoryOfMultiprocessor / (MakeTrellisMemory(kTile, 8).size + 1024);
  return side == Side::kKey ? OfBits<FixedGroups<kDim, Side::kKey>, kThreads, kBlocks>(bits)
                            : OfBits<FixedGroups<kDim, Side::kValue>, kThreads, kBlocks>(bits);
}

}  // namespace

TrellisCostsKernelFn TrellisCostsKernelOf() { return TrellisCostsKernel; }

SealKernelFn TrellisSealKernelOf(int head_dim, Side side, int bits) {
  switch (head_dim) {
    case 64:
      return Fixed<64>(side, bits);
    case 128:
      return Fixed<128>(side, bits);
    case 256:
      return Fixed<256>(side, bits);
    default:
      return OfBits<AnyGroups, TrellisThreads(MakeTileLayout(512)), 1>(bits);
  }
}

}  // namespace tq::cuda
