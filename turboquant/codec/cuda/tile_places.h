// SPDX-License-Identifier: Apache-2.0
// The inverse of PlaceOfKey and PlaceOfValue: which token and dim a lane's code stands for.
#pragma once

#include "turboquant/codec/page_layout.h"

namespace tq::cuda {

struct TokenDim {
  int token;  // within the page
  int dim;
};

constexpr TokenDim KeyAt(const TileLayout& layout, const CodePlace& place) {
  const int dims = layout.head_dim / 4;
  const int position = place.unit * kUnitCodes + place.index;
  return {place.tile * layout.tokens + position / dims * 8 + place.lane / 4,
          place.lane % 4 * dims + position % dims};
}

constexpr TokenDim ValueAt(const TileLayout& layout, const CodePlace& place) {
  const int halves = layout.tokens / 32;
  const int m_tile = place.unit * 2 + place.index / 16;
  const int e = place.index % 16 / 4;
  const int b = place.index % 4;
  return {place.tile * layout.tokens + m_tile % halves * 32 + e / 2 * 16 + place.lane % 4 * 2 +
              b / 2 + b % 2 * 8,
          m_tile / halves * 16 + e % 2 * 8 + place.lane / 4};
}

}  // namespace tq::cuda
