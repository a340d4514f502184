// SPDX-License-Identifier: Apache-2.0
// What `compare` prints: a table, JSON, a plot.
#pragma once

#include <string>

#include "apps/comparison.h"

namespace tq::app {

struct CompareReport {
  const Comparison& comparison;
  size_t against = 0;  // row that the others' differences are taken from
  int depth = -1;      // tokens in the cache when decoding was timed; -1: it was not
};

void PrintCompareTable(const CompareReport& report);
void PrintCompareJson(const CompareReport& report);
std::string CompareSvg(const Comparison& comparison);

// "floor: ..." and whether it is low enough; empty if there is no floor row.
std::string FloorText(const Comparison& comparison);
// Mean divergence, and that of a minus that of b position by position; errors over blocks.
lab::Estimate Kld(const ComparisonRow& row);
lab::Estimate KldDifference(const ComparisonRow& a, const ComparisonRow& b);
// exp(mean(nll - nll of the reference)) with its error over blocks.
lab::Estimate PerplexityRatio(const lab::DivergenceScores& scores);
// "SmolLM2 ..., 4 windows of 2048 tokens, 4092 positions scored, against a cache of f16"
std::string ComparisonTitle(const Comparison& comparison);

void WriteTextFile(const std::string& path, const std::string& text);  // throws kIo

}  // namespace tq::app
