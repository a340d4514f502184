// SPDX-License-Identifier: Apache-2.0
// The lists of encodings; docs/format.md says what they are for and how they were found.
#include <array>
#include <initializer_list>

#include "turboquant/codec/trellis_search.h"

namespace tq {
namespace {

constexpr TrellisMoves MovesOf(int bits, Side side, int head_dim) {
  using List = std::initializer_list<std::array<float, 2>>;
  // growth: of the base, each time that vectors have twice as many dims.
  const auto make = [=](float base, float growth, int reach, int foretold, List list) {
    const auto of_one = [](float x, int one) {
      return static_cast<int>(x * static_cast<float>(one) + .5f);
    };
    TrellisMoves moves = {};
    moves.foretold = foretold;
    moves.base = of_one(base, kTrellisGainOne);
    for (int d = 128; d <= head_dim; d *= 2) moves.base += of_one(growth, kTrellisGainOne);
    moves.reach = reach;
    moves.ceiling = TrellisMaxFirstGain(bits);
    for (const auto& [gain, push] : list) {
      moves.moves[moves.count++] = {static_cast<int16_t>(of_one(gain, kTrellisMoveOne)),
                                    static_cast<int16_t>(of_one(push, kTrellisMoveOne))};
    }
    return moves;
  };
  if (side == Side::kKey) {
    switch (bits) {
      case 2:
        return make(.6f, .02f, 53, 6,
                    {{1.11f, 0},
                     {.97f, 0},
                     {1.035f, 0},
                     {.895f, 0},
                     {.925f, 0},
                     {.835f, 0},
                     {.97f, .9f},
                     {1.045f, 1.5f},
                     {1.07f, 1.3f},
                     {.985f, 2.7f},
                     {1.015f, 1.9f},
                     {.975f, 2.1f}});
      case 3:
        return make(.325f, .026f, 73, 5,
                    {{1.045f, 0},
                     {.995f, 0},
                     {.96f, 0},
                     {.93f, 0},
                     {.9f, 0},
                     {.96f, .3f},
                     {1.015f, 1.5f},
                     {1.025f, 1.3f},
                     {1, 1.4f}});
      default:
        return make(.01f, .026f, 116, 4,
                    {{1.015f, 0},
                     {1.045f, 0},
                     {.99f, 0},
                     {.965f, 0},
                     {1.015f, 1.3f},
                     {1, .6f},
                     {1.01f, .9f}});
    }
  }
  switch (bits) {
    case 2:
      return make(.5f, .02f, 66, 2,
                  {{1.135f, 0},
                   {.95f, 0},
                   {.99f, 0},
                   {1.01f, 2},
                   {.98f, 4},
                   {1.02f, 1.5f},
                   {1.06f, 3},
                   {.975f, 3.6f},
                   {1, 2.3f},
                   {.99f, 2.5f},
                   {.95f, 3.1f},
                   {1.06f, 3.8f},
                   {1, 2.8f},
                   {1.03f, 2.2f},
                   {.97f, 1.9f}});
    case 3:
      return make(.251f, .025f, 82, 2,
                  {{.975f, 0},
                   {1.01f, 0},
                   {.958f, .6f},
                   {.99f, 1.9f},
                   {1.036f, 2},
                   {.978f, 1.4f},
                   {1.017f, 3.3f},
                   {1.013f, 2.2f},
                   {.994f, 2.3f},
                   {.993f, 2}});
    default:
      return make(.045f, .03f, 113, 2,
                  {{.995f, 0},
                   {1.03f, 0},
                   {.97f, .3f},
                   {.99f, 2.1f},
                   {1.03f, 2},
                   {.985f, 2.1f},
                   {.99f, 2.1f},
                   {1.01f, 1.8f},
                   {.995f, 3.2f},
                   {1.005f, 1.7f}});
  }
}
static_assert([] {  // a move behind the last one is read
  for (int bits = 2; bits <= 4; ++bits) {
    for (const Side side : {Side::kKey, Side::kValue}) {
      if (MovesOf(bits, side, 128).count >= TrellisMoves::kMost) return false;
    }
  }
  return true;
}());

}  // namespace

TrellisMoves TrellisMovesOf(int bits, Side side, int head_dim) {
  return MovesOf(bits, side, head_dim);
}

}  // namespace tq
