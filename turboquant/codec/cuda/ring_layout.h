// SPDX-License-Identifier: Apache-2.0
// How a thread of the trellis encoder has its two rings in words of shared memory.
#pragma once

#include "turboquant/codec/trellis_search.h"

namespace tq::cuda {

// Of what belongs to a ring's positions, four positions a word (ring_words.cuh).
inline constexpr int kRingWordCount = kUnitCodes / 4;

// Of a lap: of each mark the states before it, of both rings four bits of each that the state
// itself does not tell. States that differ in bits 2 and 4 share a word: in it a nibble of theirs
// lies at these bits' own value, the other ring's 8 further on. Two marks share 16 words, for a
// word's place to be the other bits' own value.
inline constexpr uint32_t kWordStates = 11, kNibbleStates = 20;
static_assert((kWordStates | kNibbleStates) == kTrellisStates - 1);
inline constexpr int kRingWords = kTrellisMarkCount / 2 * 16;
constexpr int RingWordOfMark(int mark) { return mark / 2 * 16 + mark % 2 * 4; }

}  // namespace tq::cuda
