// SPDX-License-Identifier: Apache-2.0
// Rows of experiments (lab/experiments/experiment.h) from their text.
#pragma once

#include <optional>
#include <string>

#include "apps/compare_types.h"
#include "lab/basis_cost.h"
#include "lab/bench_result.h"
#include "lab/experiments/experiment.h"

namespace tq::app {

// All throw kInvalidArgument, saying what is wrong: also for what this build does not know.

// "turbo3+bare"; "{-N}" becomes the N-th last of num_layers layers. Throws kUnsupported if there
// are too few of them.
CompareType ParseDivergenceRow(const std::string& text, int num_layers);

struct NoiseRow {
  Codec codec;
  int head_dim;
};
NoiseRow ParseNoiseRow(const std::string& text);

struct BasisRow {
  Codec codec;
  lab::ReadBasis basis;
};
BasisRow ParseBasisRow(const std::string& text);

// How far `--quick` shrinks a measurement.
inline constexpr int kQuickContext = 512, kQuickHaystack = 1024;
inline constexpr int kQuickDepthDivisor = 8, kQuickPassDivisor = 4;

// "turbo3 pp=512 d=0 ub=128": behind `depth` tokens if it names no depth itself; it decodes
// `decode` tokens if it names no prompt.
lab::BenchCase ParseSpeedRow(const std::string& text, int depth, int decode, bool quick);

// Why the row means nothing to this build; nothing if it does.
std::optional<std::string> WhyNotInBuild(lab::Measure measure, const std::string& row);

}  // namespace tq::app
