// SPDX-License-Identifier: Apache-2.0
// Makes turboquant/codec/tables/trellises.inc: levels for the committed taps, and the search that
// found the taps. Seeded: the same table every time.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "turboquant/codec/trellis.h"

namespace tq {

using TrellisTaps = std::array<uint8_t, kTrellisMaxParities>;

struct TrellisEffort {
  int rounds;   // of training
  int vectors;  // of 128, in each
  int polish;   // vectors that integer levels are compared on; 0: none
};

// Levels for given taps.
Trellis TrainTrellis(int bits, const TrellisTaps& taps, const TrellisEffort& effort);

// dB on Gaussian vectors of 128 at one gain, norm-matched.
double TrellisDecibels(const Trellis& trellis, int vectors, uint64_t seed);

struct FoundTaps {
  TrellisTaps taps;
  double decibels;
};
// The best of `candidates` random taps, in three rounds of growing effort.
std::vector<FoundTaps> SearchTaps(int bits, int candidates, uint64_t seed);

std::string MakeTrellisTable();  // trellises.inc

}  // namespace tq
