// SPDX-License-Identifier: Apache-2.0
// Shared memory of a block of the trellis kernels, and which tiles it encodes.
#pragma once

#include "turboquant/codec/cuda/ring_layout.h"
#include "turboquant/codec/page_layout.h"
#include "turboquant/codec/trellis_search.h"

namespace tq::cuda {

// A thread has two rings. Small tiles share a block, and with it the tables.
constexpr int TrellisTileThreads(const TileLayout& tile) { return tile.units * 16; }
constexpr int TrellisTiles(const TileLayout& tile) {
  return TrellisTileThreads(tile) <= 64 ? 2 : 1;
}
constexpr int TrellisThreads(const TileLayout& tile) {
  return TrellisTiles(tile) * TrellisTileThreads(tile);
}
constexpr int TrellisBlocksOfPage(const TileLayout& tile) {
  return tile.tiles_per_page() / TrellisTiles(tile);
}

// Offsets in bytes, in order. Tokens are those of all tiles of the block.
struct TrellisMemory {
  int costs;   // uint8 [inputs][parities]; after the last encoding uncoded bits
  int levels;  // the same of the nearest levels: signed bytes
  // uint32 [kRingWords][threads]; before all, int8 [tokens][kOldLevelsPadding + D] and float2 [D]:
  // the page as it was.
  int ring_words;
  int targets;  // uint4 [8][threads]: halves of both rings
  int factors;  // int16 [encodings][tokens]: of inputs
  int rows;     // uint8 [units][positions]: token of lane 0, where the compiler does not know
  int first_gains, own_gains;                          // int per token
  int products, squares, best_products, best_squares;  // int per token
  int norms;                                           // float per token; before: sums of squares
  int scores;               // float per token; before the first encoding: greatest magnitudes, then
                            // factors of targets
  int best_scores, better;  // float and int per group; before: in the first one tokens' scales
  int size;
};
// Shared memory of a multiprocessor of compute capability 9.0, of which each block takes 1 KB more.
inline constexpr int kTrellisMemoryOfMultiprocessor = 228 << 10;

// For rows of levels to differ in banks.
inline constexpr int kOldLevelsPadding = 4;

// parities: how many values the parities of a position have.
constexpr TrellisMemory MakeTrellisMemory(const TileLayout& tile, int parities) {
  const int threads = TrellisThreads(tile), tokens = TrellisTiles(tile) * tile.tokens;
  TrellisMemory m = {};
  int used = 0;
  const auto take = [&used](int bytes) {
    const int at = used;
    used += (bytes + 15) / 16 * 16;
    return at;
  };
  m.costs = take(kTrellisInputs * parities);
  m.levels = take(kTrellisInputs * parities);
  m.ring_words = take(kRingWords * threads * 4);
  m.targets = take(kRingWordCount * threads * 16);
  m.factors = take(TrellisMoves::kMost * tokens * 2);
  m.rows = take(tile.units * kUnitCodes);
  for (int* p : {&m.first_gains, &m.own_gains, &m.products, &m.squares, &m.best_products,
                 &m.best_squares, &m.norms, &m.scores, &m.best_scores, &m.better}) {
    *p = take(tokens * 4);
  }
  m.size = used;
  return m;
}

}  // namespace tq::cuda
