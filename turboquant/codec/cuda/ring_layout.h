// SPDX-License-Identifier: Apache-2.0
// Words of shared memory that a thread of the trellis encoder has for its two rings.
#pragma once

#include "turboquant/codec/trellis_search.h"

namespace tq::cuda {

// Of what belongs to a ring's positions, four positions a word (ring_words.cuh).
inline constexpr int kRingWordCount = kUnitCodes / 4;

// Of a lap: of each mark the states before it, of four states of both rings each the four bits that
// the state itself does not tell. Inputs lie in the last words: each is read before a mark replaces
// it.
inline constexpr int kRingWordsOfMark = kTrellisStates / 4;
inline constexpr int kRingWords = kTrellisMarkCount * kRingWordsOfMark;
inline constexpr int kRingInputs = kRingWords - kUnitCodes;
static_assert(kTrellisMarkStep == 4 && kRingWordsOfMark >= kTrellisMarkStep);

}  // namespace tq::cuda
