// SPDX-License-Identifier: Apache-2.0
// What the encoder of a trellis code does, apart from the code itself: grids, costs and moves. Part
// of the format as far as equal bytes on every device go; a reader needs none of it.
//
// A tile is encoded again and again, each time with other factors on its inputs, by one lap over
// each ring; what comes out is judged, and rings of which it makes a better whole are kept.
#pragma once

#include <array>
#include <cstdint>

#include "turboquant/codec/page_layout.h"
#include "turboquant/codec/transform.h"
#include "turboquant/codec/trellis.h"

namespace tq {

// Targets, what levels shall come near: integers, kTrellisTargetGrid to a level. At gain g (in
// kTrellisGainOne) an encoder's input is round(target * g * grid / 2^15), TrellisGrid to a level.
inline constexpr int kTrellisTargetGrid = 64;
inline constexpr int kTrellisMaxTarget = 32767;
constexpr int TrellisGrid(int bits) { return 1 << (bits - 2); }
inline constexpr int kTrellisGainOne = 32768 / kTrellisTargetGrid;
inline constexpr int kTrellisMinGain = kTrellisGainOne / 4, kTrellisMaxGain = 2 * kTrellisGainOne;
inline constexpr int kTrellisMaxInput =
    511;  // where all costs are 0, or the outermost levels' at 4 bits
// Of two codes of a ring the one is better that comes nearer to its tokens' targets, each at half
// the sum of two gains known before the lap: the encoding's, and the one that suits the best code.
// In integers: the sum over tokens of (product * that sum - square * this) grows.
inline constexpr int kTrellisJudgeGrid = kTrellisGainOne * kTrellisTargetGrid;

// target * factor / 2^15, half up.
constexpr int TrellisScaled(int target, int factor) { return (target * factor + (1 << 14)) >> 15; }

// A metric: what the best path to a state costs, and as its low bits the state that this path had
// at the last mark. A state's own bits reach further back than to the mark before it (by one: then
// four bits tell two such states apart); every lap begins with the least cost taken from all, and
// so 16 bits are enough.
inline constexpr int kTrellisCostShift = 6;
inline constexpr int kTrellisMaxCost = 55;
inline constexpr int kTrellisMetricShift = kTrellisMemory - 1;
static_assert((kUnitCodes + kTrellisMemory - 1) * kTrellisMaxCost << kTrellisMetricShift < 65536);
inline constexpr int kTrellisMarkStep = kTrellisMemory - 2;
inline constexpr int kTrellisMarkCount = kUnitCodes / kTrellisMarkStep;
static_assert(kTrellisMarkCount * kTrellisMarkStep == kUnitCodes);
// The position before which mark i is set.
constexpr int TrellisMark(int i) { return (i + 1) * kTrellisMarkStep; }
// The coded bits since the mark before that the state at mark i has, where they stand in word 0.
constexpr uint32_t TrellisMarkBits(uint32_t state, int i) {
  uint32_t bits = 0;
  for (int n = 0; n < kTrellisMarkStep; ++n) bits |= (state >> n & 1u) << (TrellisMark(i) - 1 - n);
  return bits;
}
inline constexpr int kTrellisTries = 4;  // ends of a lap that are followed to their start

// What an encoder wants to know of an input, by parity: the cost (squared distance, of at most
// kTrellisMaxDistance, to the nearest level, less the least over all parities, shifted right and
// capped), where a metric has it, and above it which uncoded bits that level has.
inline constexpr int kTrellisMaxDistance = 255;
inline constexpr int kTrellisFreeShift = 11;
inline constexpr int kTrellisCostMask = (1 << kTrellisFreeShift) - 1;
static_assert(kTrellisMaxCost << kTrellisMetricShift <= kTrellisCostMask);
inline constexpr int kTrellisInputs = 2 * kTrellisMaxInput + 1;
struct alignas(16) TrellisCosts {
  uint16_t of[1 << kTrellisMaxParities];
};
constexpr TrellisCosts TrellisCostsOf(const Trellis& trellis, int input) {
  TrellisCosts costs = {};
  int squares[1 << kTrellisMaxParities] = {};
  int least = kTrellisMaxDistance * kTrellisMaxDistance;
  for (uint32_t z = 0; z < 1u << trellis.parities; ++z) {
    int nearest = 1 << 15;
    uint32_t nearest_free = 0;
    for (uint32_t free = 0; free < 1u << trellis.free_bits(); ++free) {
      const int difference = input - TrellisGrid(trellis.bits) * trellis.Level(free, z);
      const int distance = difference < 0 ? -difference : difference;
      if (distance < nearest) {
        nearest = distance;
        nearest_free = free;
      }
    }
    nearest = nearest < kTrellisMaxDistance ? nearest : kTrellisMaxDistance;
    squares[z] = nearest * nearest;
    least = squares[z] < least ? squares[z] : least;
    costs.of[z] = static_cast<uint16_t>(nearest_free << kTrellisFreeShift);
  }
  for (uint32_t z = 0; z < 1u << trellis.parities; ++z) {
    const int excess = (squares[z] - least) >> kTrellisCostShift;
    const int cost = excess < kTrellisMaxCost ? excess : kTrellisMaxCost;
    costs.of[z] = static_cast<uint16_t>(costs.of[z] | cost << kTrellisMetricShift);
  }
  return costs;
}

// The encodings of a tile. A vector's gain in the first ones is `gain` times one that its greatest
// target foretells: levels end where that one comes to lie, or before it among many dims. In all
// others it is `gain` times the one that suits its best code, and `push` times what that one has
// changed by since the encoding before: codes follow gains and gains codes, by small steps if not
// pushed.
inline constexpr int kTrellisMoveShift = 10, kTrellisMoveOne = 1 << kTrellisMoveShift;
// Of foretold gains: vectors without tails want no more.
constexpr int TrellisMaxFirstGain(int bits) { return bits == 4 ? 720 : 592; }
struct TrellisMove {
  int16_t gain, push;  // in kTrellisMoveOne
};
struct TrellisMoves {
  static constexpr int kMost = 16;
  TrellisMove moves[kMost];  // zeros after the last, of which there is one
  int count;
  int foretold;  // the first ones
  int base, reach;
  int ceiling;  // of foretold gains

  // Of a vector whose greatest target is `most` (in magnitude).
  constexpr int FirstGain(int most) const {
    const int gain = base + reach * (kTrellisGainOne * kTrellisTargetGrid) / (most > 0 ? most : 1);
    return gain < ceiling ? ClampGain(gain) : ceiling;
  }
  // `first`: FirstGain; own, before: gains that suit the best codes of now and of one encoding ago.
  constexpr int Gain(int encoding, int first, int own, int before) const {
    const TrellisMove& move = moves[encoding];
    const int sum =
        encoding < foretold ? first * move.gain : own * move.gain + (own - before) * move.push;
    return ClampGain((sum + kTrellisMoveOne / 2) >> kTrellisMoveShift);
  }
  static constexpr int ClampGain(int gain) {
    return gain < kTrellisMinGain   ? kTrellisMinGain
           : gain > kTrellisMaxGain ? kTrellisMaxGain
                                    : gain;
  }
};
// Not inline: code for an instruction set must not leave a copy for the linker to choose.
TrellisMoves TrellisMovesOf(int bits, Side side, int head_dim);

static_assert(kTrellisMaxGain * TrellisGrid(4) < 32768 / 2);

// Which codes of a tile lie where, and who shares units with whom. Tokens of a tile side fall into
// groups: keys of a lane are cut into units every 32 codes, so D / 4 dims of one or a few tokens
// fill whole units; a unit of values always holds 8 or 16 tokens.
struct TrellisGroups {
  TileLayout tile;
  Side side;
  int key_tokens;  // of a group of keys

  constexpr TrellisGroups(const TileLayout& layout, Side s) : tile(layout), side(s), key_tokens(1) {
    while (key_tokens * (layout.head_dim / 4) % kUnitCodes != 0) key_tokens *= 2;
  }
  constexpr int value_parts() const { return tile.tokens > 64 ? tile.tokens / 64 : 1; }
  constexpr int count() const {
    return side == Side::kKey ? tile.tokens / key_tokens : 4 * value_parts();
  }
  constexpr int OfToken(int token) const {
    if (side == Side::kKey) return token / 8 / key_tokens * 8 + token % 8;
    return token / 64 % value_parts() * 4 + token % 8 / 2;
  }
  // Token n of a group, in order: OfToken's inverse.
  constexpr int TokenOfGroup(int group, int n) const {
    if (side == Side::kKey) return (group / 8 * key_tokens + n) * 8 + group % 8;
    return group / 4 * 64 + n / 2 * 8 + group % 4 * 2 + n % 2;
  }
  constexpr int OfUnit(int lane, int unit) const {
    if (side == Side::kKey) {
      const int units = key_tokens * (tile.head_dim / 4) / kUnitCodes;
      return unit / units * 8 + lane / 4;
    }
    return unit % value_parts() * 4 + lane % 4;
  }
  // Of keys: which of a lane's tokens. Constant in a unit at D = 128, 256 and 512, which compilers
  // shall see.
  constexpr int LaneTokenOf(int unit, int n) const {
    const int quarter = tile.head_dim / 4;
    if (quarter % kUnitCodes == 0) return unit / (quarter / kUnitCodes);
    return (unit * kUnitCodes + n) / quarter;
  }
  // Token and dim of code n of a unit in a lane are those of the code plus those of the lane.
  constexpr int TokenOfCode(int unit, int n) const {
    if (side == Side::kKey) return LaneTokenOf(unit, n) * 8;
    const int halves = tile.tokens / 32, m_tile = unit * 2 + n / 16;
    return m_tile % halves * 32 + n % 16 / 8 * 16 + n % 4 / 2 + n % 2 * 8;
  }
  constexpr int DimOfCode(int unit, int n) const {
    if (side == Side::kKey) {
      return unit * kUnitCodes + n - LaneTokenOf(unit, n) * (tile.head_dim / 4);
    }
    return (unit * 2 + n / 16) / (tile.tokens / 32) * 16 + n % 8 / 4 * 8;
  }
  constexpr int TokenOfLane(int lane) const { return side == Side::kKey ? lane / 4 : lane % 4 * 2; }
  constexpr int DimOfLane(int lane) const {
    return side == Side::kKey ? lane % 4 * (tile.head_dim / 4) : lane / 4;
  }
};

// TrellisCostsOf every input from -kTrellisMaxInput on.
const std::array<TrellisCosts, kTrellisInputs>& TrellisCostTable(int bits);

// f32(sigma * sqrt(D)), the product and root in double.
float TrellisGain(int bits, int head_dim);

}  // namespace tq
