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

// By bits - 2: bytes [input][parity], of the nearest level the cost, itself, and its uncoded bits.
constexpr int kTableBytes = ((kTrellisInputs << kTrellisMaxParities) + 15) / 16 * 16;
struct alignas(16) TrellisTable {
  uint8_t costs[kTableBytes];
  uint8_t levels[kTableBytes];
  uint8_t free_bits[kTableBytes];
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
    const uint32_t free = costs.of[z] >> kTrellisFreeShift;
    table.costs[at] = static_cast<uint8_t>((costs.of[z] & kTrellisCostMask) >> kTrellisMetricShift);
    table.levels[at] = static_cast<uint8_t>(trellis.Level(free, static_cast<uint32_t>(z)));
    table.free_bits[at] = static_cast<uint8_t>(free);
  }
}

template <class GroupsOf, int kBits>
struct TrellisSealer {
  using Rings = RingPair<kBits>;
  static constexpr int kParts = GroupsOf::kParts;

  const SealParams& p;
  TileSide from;
  TileSide to;
  const std::byte* open;
  const std::byte* behind;  // or null
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
  // as it was and as it will be; tokens' scales and what makes targets of values stand where scores
  // will.
  TQ_DEVICE int8_t* OldLevels() const { return Shared<int8_t>(at.ring_words); }
  TQ_DEVICE int OldStride() const { return Dims() + kOldLevelsPadding; }
  TQ_DEVICE float2* References() const {
    return Shared<float2>(at.ring_words + Tokens() * OldStride());
  }
  TQ_DEVICE int TokenOfPage(int token) const { return first_tile * Layout().tokens + token; }
  // A code decoded, less the new reference.
  TQ_DEVICE float Decoded(int token, int d) const {
    const float x = ValueOfLevel(OldLevels()[token * OldStride() + d], LevelRest(from),
                                 Shared<float>(at.best_scores)[token]);
    if (!Keys()) return x;
    const float2 reference = References()[d];
    return SubRn(AddRn(x, reference.x), reference.y);
  }
  struct Extent {
    float squares, most;  // sum; greatest magnitude
  };
  // 16 strided sums, then a tree: the order that the format fixes. By half a warp.
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

  TQ_DEVICE void LoadTable(int place, const uint8_t* table) const {
    constexpr int kBytes = kTrellisInputs * Rings::kParities, kWhole = kBytes / 16;
#pragma unroll 4
    for (int i = ThreadId(); i < kWhole; i += BlockThreads()) {  // 16 bytes at a time
      Shared<uint4>(place)[i] = reinterpret_cast<const uint4*>(table)[i];
    }
    const int rest = 16 * kWhole + ThreadId();
    if (rest < kBytes) Shared<uint8_t>(place)[rest] = table[rest];
  }
  TQ_DEVICE void LoadTables() const {
    const TrellisTable& table = trellis_tables[kBits - 2];
    LoadTable(at.costs, table.costs);
    LoadTable(at.levels, table.levels);
    if constexpr (GroupsOf::kKnown) return;
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
  TQ_DEVICE Rings RingsHere() const {
    return {SharedMemory() + at.costs, static_cast<uint32_t>(at.ring_words + ThreadId() * 4),
            BlockThreads() * 4};
  }

  TQ_DEVICE void LoadTargets() const {
    UnpackLevels(from, open, first_tile, Tiles(), OldLevels(), OldStride());
    if (Keys()) {
      for (int d = ThreadId(); d < Dims(); d += BlockThreads()) {
        std::byte* to_sealed = sealed + p.sealed.reference_offset + 2 * d;
        const uint16_t mean = behind != nullptr ? LoadHalf(behind + p.open.reference_offset + 2 * d)
                                                : LoadHalf(to_sealed);
        if (behind != nullptr && first_tile == 0) StoreHalf(to_sealed, mean);
        References()[d] = {ReadHalf(open + p.open.reference_offset + 2 * d), HalfLow(mean)};
      }
      if (behind != nullptr && first_tile == 0)
        WriteReferencePadding(to, sealed, p.sealed.reference_offset, p.sealed.tiles_offset);
    }
    ForTokens([&](int token) {
      Shared<float>(at.best_scores)[token] = ReadHalf(open + from.ScaleOffset(TokenOfPage(token)));
      ClearSums(token);
    });
    SyncThreads();
    // Two tokens a warp, then a thread for each.
    for (int token = ThreadId() / 16; token < Tokens(); token += BlockThreads() / 16) {
      const Extent extent = ExtentOf(token);
      if (LaneId() % 16 == 0) {
        Shared<float>(at.norms)[token] = extent.squares;
        Shared<float>(at.scores)[token] = extent.most;
      }
    }
    SyncThreads();
    ForTokens([&](int token) {
      const float norm = SqrtRn(Shared<float>(at.norms)[token]);
      const float factor = norm > 0 ? DivRn(Keys() ? p.k_gain : p.v_gain, norm) : 0;
      const float most = Shared<float>(at.scores)[token];
      Shared<float>(at.norms)[token] = norm;
      Shared<float>(at.scores)[token] = factor;
      Shared<int>(at.first_gains)[token] = p.moves.FirstGain(Target(most, factor));
    });
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
              static_cast<uint32_t>(Target(Decoded(token, d), Shared<float>(at.scores)[token]));
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
  // Factors of inputs, twice as large, of an encoding.
  TQ_DEVICE int16_t& FactorOf(int lap, int token) const {
    return Shared<int16_t>(at.factors)[lap * Tokens() + token];
  }
  // Of elements of a word, by ring.
  struct Factors {
    int of[2][4];
  };
  TQ_DEVICE void LoadFactors(const int (&laps)[2], int w, Factors& factors) const {
#pragma unroll
    for (int ring = 0; ring < 2; ++ring) {
#pragma unroll
      for (int e = 0; e < 4; ++e) factors.of[ring][e] = FactorOf(laps[ring], TokenOf(ring, w, e));
    }
  }
  // Where inputs of encodings, each ring's own, stand in the tables: word by word.
  struct InputPlaces {
    HalfWords of[2];
  };
  class InputReader {
   public:
    TQ_DEVICE InputReader(const TrellisSealer& sealer, const int (&laps)[2])
        : sealer_(sealer), laps_{laps[0], laps[1]} {
      sealer.LoadFactors(laps_, 0, factors_);
    }
    TQ_DEVICE InputPlaces At(int w, const TargetWords& targets) {
      if constexpr (!GroupsOf::kOneToken) sealer_.LoadFactors(laps_, w, factors_);
      constexpr uint32_t kMost = kTrellisMaxInput * 0x10001u;
      InputPlaces places;
#pragma unroll
      for (int ring = 0; ring < 2; ++ring) {
        const auto& factors = factors_.of[ring];
        const uint32_t even = ScaleHalves(targets.of[ring].even, factors[0], factors[2]),
                       odd = ScaleHalves(targets.of[ring].odd, factors[1], factors[3]);
        places.of[ring] = {AddClampS16x2(even, kMost, 2 * kMost) * Rings::kParities,
                           AddClampS16x2(odd, kMost, 2 * kMost) * Rings::kParities};
      }
      return places;
    }

   private:
    const TrellisSealer& sealer_;
    int laps_[2];
    Factors factors_;
  };

  // Of this thread's rings: coded bits, and the encoding whose inputs they are for. Both give the
  // levels.
  struct Code {
    uint32_t coded[2];
    int laps[2];
  };
  // Bytes of a table at the inputs and parities of a code, word by word.
  struct ByteWords {
    uint32_t of[2];
  };
  class TableReader {
   public:
    TQ_DEVICE TableReader(const TrellisSealer& sealer, const Code& code, int table)
        : bytes_(sealer.template Shared<uint8_t>(table)),
          inputs_(sealer, code.laps),
          parities_{RingParities<kBits>(code.coded[0]), RingParities<kBits>(code.coded[1])} {}
    TQ_DEVICE ByteWords At(int w, const TargetWords& targets) {
      const InputPlaces places = inputs_.At(w, targets);
      ByteWords words;
#pragma unroll
      for (int ring = 0; ring < 2; ++ring) {
        const uint32_t z = parities_[ring].Bytes(w);
        const uint32_t even = places.of[ring].even + Prmt(z, 0, 0x4240u),
                       odd = places.of[ring].odd + Prmt(z, 0, 0x4341u);
        words.of[ring] = PackBytes(bytes_[even & 0xffffu], bytes_[odd & 0xffffu],
                                   bytes_[even >> 16], bytes_[odd >> 16]);
      }
      return words;
    }

   private:
    const uint8_t* bytes_;
    InputReader inputs_;
    RingParities<kBits> parities_[2];
  };
  TQ_DEVICE TableReader LevelsOf(const Code& code) const { return {*this, code, at.levels}; }

  // One lap over both rings.
  TQ_DEVICE Code Encode(int lap, typename Rings::Metrics& metrics) const {
    Code code = {{}, {lap, lap}};
    InputReader inputs(*this, code.laps);
    const Rings rings = RingsHere();
    const uint32_t ends = rings.Lap([&](int w) { return inputs.At(w, Targets(w)); }, metrics);
    rings.Follow(ends, code.coded);
    return code;
  }

  TQ_DEVICE static void CopyRing(int ring, const Code& from, Code& to) {
    to.coded[ring] = from.coded[ring];
    to.laps[ring] = from.laps[ring];
  }

  // What rings add to the sums of their tokens, where the compiler knows which these are. Made once
  // for a code and kept as long as it is.
  template <int kTokens>
  struct RingSums {
    int products[2][kTokens], squares[2][kTokens];
  };
  template <int kTokens>
  TQ_DEVICE static void CopyRing(int ring, const RingSums<kTokens>& from, RingSums<kTokens>& to) {
#pragma unroll
    for (int i = 0; i < kTokens; ++i) {
      to.products[ring][i] = from.products[ring][i];
      to.squares[ring][i] = from.squares[ring][i];
    }
  }
  template <int kTokens>
  TQ_DEVICE RingSums<kTokens> SumRings(const Code& code) const {
    constexpr RingTokens kOfRing = GroupsOf::kTokens;
    constexpr int kPeriod = RingPeriodOf(kOfRing);
    RingSums<kTokens> sums = {};
    TableReader reader = LevelsOf(code);
#pragma unroll 1
    for (int first = 0; first < kRingWordCount; first += kPeriod) {
#pragma unroll
      for (int i = 0; i < kPeriod; ++i) {
        const TargetWords targets = Targets(first + i);
        const ByteWords levels = reader.At(first + i, targets);
#pragma unroll
        for (int part = 0; part < kParts; ++part) {
          const int token = kOfRing.of[4 * i + part];
#pragma unroll
          for (int ring = 0; ring < 2; ++ring) {
            AddPart<kParts>(targets.of[ring], levels.of[ring], part, sums.products[ring][token],
                            sums.squares[ring][token]);
          }
        }
      }
    }
    return sums;
  }
  // A ring whose new code comes no nearer to the targets than its best one goes back to that.
  template <int kTokens>
  TQ_DEVICE void KeepBetter(const Code& best, const RingSums<kTokens>& best_sums, Code& code,
                            RingSums<kTokens>& sums) const {
    constexpr RingTokens kOfRing = GroupsOf::kTokens;
#pragma unroll
    for (int ring = 0; ring < 2; ++ring) {
      int64_t nearer = 0;
      int square = 0;
#pragma unroll
      for (int i = 0; i < kTokens; ++i) {
        const int token = TokenOf(ring, kOfRing.first[i] / 4, kOfRing.first[i] % 4);
        nearer += int64_t{sums.products[ring][i] - best_sums.products[ring][i]} *
                  TwiceGain(code.laps[ring], token);
        square += sums.squares[ring][i] - best_sums.squares[ring][i];
      }
      if (nearer > int64_t{square} * kTrellisJudgeGrid) continue;
      CopyRing(ring, best, code);
      CopyRing(ring, best_sums, sums);
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

  // Where the compiler does not know them: the same from levels found again.
  TQ_DEVICE void KeepBetterByParts(const Code& best, Code& code) const {
    int64_t nearer[2] = {};
    TableReader now = LevelsOf(code), old = LevelsOf(best);
#pragma unroll 1
    for (int w = 0; w < kRingWordCount; ++w) {
      const TargetWords targets = Targets(w);
      const ByteWords new_levels = now.At(w, targets), old_levels = old.At(w, targets);
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
#pragma unroll
        for (int ring = 0; ring < 2; ++ring) {
          int product = 0, square = 0, old_product = 0, old_square = 0;
          AddPart<kParts>(targets.of[ring], new_levels.of[ring], part, product, square);
          AddPart<kParts>(targets.of[ring], old_levels.of[ring], part, old_product, old_square);
          nearer[ring] +=
              int64_t{product - old_product} * TwiceGain(code.laps[ring], TokenOf(ring, w, part)) -
              int64_t{square - old_square} * kTrellisJudgeGrid;
        }
      }
    }
#pragma unroll
    for (int ring = 0; ring < 2; ++ring) {
      if (nearer[ring] <= 0) CopyRing(ring, best, code);
    }
  }
  TQ_DEVICE void AddToTokensByParts(const Code& code) const {
    TableReader reader = LevelsOf(code);
#pragma unroll 1
    for (int w = 0; w < kRingWordCount; ++w) {
      const TargetWords targets = Targets(w);
      const ByteWords levels = reader.At(w, targets);
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        TokenSum sums[2] = {};
#pragma unroll
        for (int ring = 0; ring < 2; ++ring) {
          AddPart<kParts>(targets.of[ring], levels.of[ring], part, sums[ring].product,
                          sums[ring].square);
        }
        AddTo(TokenOf(0, w, part), TokenOf(1, w, part), sums[0], sums[1]);
      }
    }
  }

  // The gain at which a vector's code fits it best.
  TQ_DEVICE static int GainOf(int product, int square) {
    if (product <= 0) return kTrellisGainOne;
    constexpr float kOne = kTrellisTargetGrid * kTrellisGainOne;
    const float gain = DivRn(MulRn(kOne, static_cast<float>(square)), static_cast<float>(product));
    constexpr float kLeast = kTrellisMinGain, kMost = kTrellisMaxGain;
    return RoundToInt(gain < kLeast ? kLeast : gain > kMost ? kMost : gain);
  }

  // Of a token, for the encoding that comes, number `lap`.
  TQ_DEVICE void SetFactors(int token, int lap) const {
    const int own = lap == 0 ? kTrellisGainOne
                             : GainOf(Shared<int>(at.best_products)[token],
                                      Shared<int>(at.best_squares)[token]);
    const int before = lap == 0 ? own : Shared<int>(at.own_gains)[token];
    Shared<int>(at.own_gains)[token] = own;
    const int gain = p.moves.Gain(lap, Shared<int>(at.first_gains)[token], own, before);
    FactorOf(lap, token) = static_cast<int16_t>(2 * gain * TrellisGrid(kBits));
  }
  // To judge a token's rings by: of the encoding, and its own.
  TQ_DEVICE int TwiceGain(int lap, int token) const {
    return FactorOf(lap, token) / (2 * TrellisGrid(kBits)) + Shared<int>(at.own_gains)[token];
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
  // The same for this thread's rings: are they of a group that does?
  TQ_DEVICE void AcceptBetter(int lap, bool (&better)[2]) const {
    SyncTile();
    if (ThreadId() - Tile() * TileThreads() < 32) AcceptTokens(lap);
    SyncTile();
#pragma unroll
    for (int ring = 0; ring < 2; ++ring) {
      better[ring] = Shared<int>(at.better)[GroupOfRing(ring)] != 0;
    }
  }

  // All encodings. Gives the best code, leaves its sums.
  TQ_DEVICE Code Search() const {
    typename Rings::Metrics metrics;
    Rings::Start(metrics);
    Code best = {};
    if constexpr (GroupsOf::kKnown) {
      constexpr int kTokens = GroupsOf::kTokens.count;
      RingSums<kTokens> best_sums = {};
#pragma unroll 1
      for (int lap = 0; lap < p.moves.count; ++lap) {
        Code code = Encode(lap, metrics);
        RingSums<kTokens> sums = SumRings<kTokens>(code);
        if (lap > 0) KeepBetter(best, best_sums, code, sums);
        AddToTokens(sums);
        bool better[2];
        AcceptBetter(lap, better);
#pragma unroll
        for (int ring = 0; ring < 2; ++ring) {
          if (!better[ring]) continue;
          CopyRing(ring, code, best);
          CopyRing(ring, sums, best_sums);
        }
      }
    } else {
#pragma unroll 1
      for (int lap = 0; lap < p.moves.count; ++lap) {
        Code code = Encode(lap, metrics);
        if (lap > 0) KeepBetterByParts(best, code);
        AddToTokensByParts(code);
        bool better[2];
        AcceptBetter(lap, better);
#pragma unroll
        for (int ring = 0; ring < 2; ++ring) {
          if (better[ring]) CopyRing(ring, code, best);
        }
      }
    }
    return best;
  }

  TQ_DEVICE void WriteWords(const Code& code) const {
    SyncThreads();  // no tile needs costs any longer
    LoadTable(at.costs, trellis_tables[kBits - 2].free_bits);
    SyncThreads();
    std::byte* out = sealed + to.CodesOffset(first_tile + Tile());
    TableReader reader(*this, code, at.costs);
    uint32_t words[2][kBits] = {};
#pragma unroll 1
    for (int w = 0; w < kRingWordCount; ++w) {
      const ByteWords free_bits = reader.At(w, Targets(w));
#pragma unroll
      for (int ring = 0; ring < 2; ++ring) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          SetFreeBits(kBits, words[ring], e, w,
                      free_bits.of[ring] >> ShiftOfByte(e) & ((1u << (kBits - 1)) - 1));
        }
      }
    }
#pragma unroll
    for (int ring = 0; ring < 2; ++ring) {
      words[ring][0] = code.coded[ring];
#pragma unroll
      for (int w = 0; w < kBits; ++w) {
        *reinterpret_cast<uint32_t*>(out + WordOffset(Layout(), kBits, LaneId(), Unit(ring), w)) =
            words[ring][w];
      }
    }
  }

  TQ_DEVICE void Run() const {
    LoadTables();
    SyncThreads();
    LoadTargets();
    ForTokens([&](int token) { SetFactors(token, 0); });
    SyncThreads();
    WriteWords(Search());
    ForTileTokens([&](int token) {
      const float length = SqrtRn(static_cast<float>(Shared<int>(at.best_squares)[token]));
      const float scale = length > 0 ? DivRn(Shared<float>(at.norms)[token], length) : 0.0f;
      WriteScale(to, Keys() ? p.sealed.v.rows : p.sealed.k.rows, sealed, TokenOfPage(token),
                 FiniteHalf(scale));
    });
  }
};

// Jobs of one side; their references are written already, or there in the pages behind. The kernel
// of the other side, or the one that encodes keys, may run ahead of and beside this one: it ends no
// sooner.
template <class GroupsOf, int kBits, int kThreads, int kBlocks>
TQ_KERNEL(kThreads, kBlocks)
TrellisSealKernel(const TQ_GRID_CONSTANT SealParams p) {
  LetNextStart();
  const SealJob& job = p.jobs[BlockId() / TrellisBlocksOfPage(p.sealed.k.tile)];
  const GroupsOf groups_of(TrellisGroups(p.sealed.k.tile, job.side));
  const TrellisGroups groups = groups_of();
  const bool keys = groups.side == Side::kKey;
  const auto known = [&](TileSide side) {
    side.tile = groups.tile;
    side.side = groups.side;
    return side;
  };
  const TrellisSealer<GroupsOf, kBits> sealer = {
      p,
      known(keys ? p.open.k : p.open.v),
      known(keys ? p.sealed.k : p.sealed.v),
      p.arena + job.open_offset,
      PageBehind(p, job),
      p.arena + job.sealed_offset,
      groups_of,
      BlockId() % TrellisBlocksOfPage(groups.tile) * TrellisTiles(groups.tile),
      MakeTrellisMemory(groups.tile, RingPair<kBits>::kParities)};
  sealer.Run();
  if (BlockId() == 0) WaitForInputs();  // the others make room
}

template <class GroupsOf, int kThreads, int kBlocks>
SealKernelFn OfBits(int bits) {
  return bits == 2   ? TrellisSealKernel<GroupsOf, 2, kThreads, kBlocks>
         : bits == 3 ? TrellisSealKernel<GroupsOf, 3, kThreads, kBlocks>
                     : TrellisSealKernel<GroupsOf, 4, kThreads, kBlocks>;
}
// As many blocks as a multiprocessor has room for, by memory and registers.
template <class GroupsOf, int kDim>
SealKernelFn Fixed(int bits) {
  constexpr TileLayout kTile = MakeTileLayout(kDim);
  constexpr int kByMemory =
      kTrellisMemoryOfMultiprocessor / (MakeTrellisMemory(kTile, 8).size + 1024);
  constexpr int kByRegisters = GroupsOf::kTokens.count <= 8 ? 3 : 2;
  constexpr int kBlocks = kByMemory < kByRegisters ? kByMemory : kByRegisters;
  return OfBits<GroupsOf, TrellisThreads(kTile), kBlocks>(bits);
}
template <int kDim>
SealKernelFn Fixed(Side side, int bits) {
  return side == Side::kKey ? Fixed<FixedGroups<kDim, Side::kKey>, kDim>(bits)
                            : Fixed<FixedGroups<kDim, Side::kValue>, kDim>(bits);
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
