// SPDX-License-Identifier: Apache-2.0
// Divergence scores as text, in the layout of llama-perplexity's that other programs parse.
#pragma once

#include <string>

#include "lab/kl_divergence.h"

namespace tq::app {

std::string DivergenceHeader();
std::string DivergenceLine(int windows_done, const lab::DivergenceScores& scores);
std::string DivergenceSummary(const lab::DivergenceScores& scores);  // empty below 100 positions

}  // namespace tq::app
