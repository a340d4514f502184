// SPDX-License-Identifier: Apache-2.0
// What the encoder of a trellis code does, apart from the code itself: grids, costs and gains. Part
// of the format as far as equal bytes on every device go; a reader needs none of it.
#pragma once

#include <array>
#include <cstdint>

#include "turboquant/codec/page_layout.h"
#include "turboquant/codec/transform.h"
#include "turboquant/codec/trellis.h"

namespace tq {

// Inputs are integers: 1 / TrellisGrid of a level, within +-kTrellisMaxInput.
constexpr int TrellisGrid(int bits) { return 1 << (bits - 2); }
inline constexpr int kTrellisMaxInput = 1023;

// The cost of a parity at a value: squared distance (of at most kTrellisMaxDistance) to its nearest
// level, less the least over all parities, shifted right and capped. Sums over two laps fit 16
// bits, and a start that is not the wanted one stays dearer than any lap.
inline constexpr int kTrellisMaxDistance = 255;
inline constexpr int kTrellisCostShift = 2;
inline constexpr int kTrellisMaxCost = 895;
inline constexpr int kTrellisOtherStart = 28672;
static_assert(kTrellisOtherStart > kTrellisMaxCost * kUnitCodes);
static_assert(kTrellisOtherStart + kTrellisMaxCost * kUnitCodes < 65536);

inline constexpr int kTrellisStarts = 4;  // states from which a closed lap is tried

// Vectors are judged on a grid of their own, the same for all gains: level / kTrellisScoreGrid.
inline constexpr int kTrellisScoreGrid = 64;
inline constexpr int kTrellisMaxScoreInput = 32767;

// The gains that are tried after 1, in this order, per group of vectors that share units. One move
// multiplies all keys of a group, and every eighth value of a group alone.
inline constexpr std::array kTrellisKeyGains = {1.05f, 0.95f, 1.1f, 0.9f, 1.15f, 0.85f, 1.2f};
inline constexpr std::array kTrellisValueGains = {1.08f, 0.92f};
inline constexpr int kTrellisValueSubsets = 8;

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
  constexpr int OfUnit(int lane, int unit) const {
    if (side == Side::kKey) {
      const int units = key_tokens * (tile.head_dim / 4) / kUnitCodes;
      return unit / units * 8 + lane / 4;
    }
    return unit % value_parts() * 4 + lane % 4;
  }
  // Index into rows [tokens][D] of code n of a unit is OfCode + OfLane.
  constexpr int OfCode(int unit, int n) const {
    const int position = unit * kUnitCodes + n;
    if (side == Side::kKey) {
      const int quarter = tile.head_dim / 4;
      return position / quarter * 8 * tile.head_dim + position % quarter;
    }
    const int halves = tile.tokens / 32, m_tile = position / 16;
    const int e = position % 16 / 4, b = position % 4;
    const int token = m_tile % halves * 32 + e / 2 * 16 + b / 2 + b % 2 * 8;
    return token * tile.head_dim + m_tile / halves * 16 + e % 2 * 8;
  }
  constexpr int OfLane(int lane) const {
    const int g = lane / 4, t = lane % 4;
    if (side == Side::kKey) return g * tile.head_dim + t * (tile.head_dim / 4);
    return 2 * t * tile.head_dim + g;
  }
  // The move that changes a value's gain.
  static constexpr int SubsetOf(int token) { return token % 2 + token / 8 % 4 * 2; }
};

// f32(sigma * sqrt(D)), the product and root in double.
float TrellisGain(int bits, int head_dim);

}  // namespace tq
