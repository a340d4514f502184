// SPDX-License-Identifier: Apache-2.0
// The caches that `compare` sets side by side, as text:
//   TYPE[/TYPE_V][+OPTION]...   such as turbo4/turbo3, turbo3+window=0+sinks=0, turbo4+bare
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lab/simulation/ideas.h"

namespace tq::app {

struct CompareType {
  std::string k = {}, v = {};                  // types; with layers, as --cache-type-k takes them
  std::optional<int> window = {}, sinks = {};  // tokens; else what the command says
  std::string ages = {};                       // as --cache-age has them; empty: as it says
  std::optional<int> pass = {};  // tokens of a forward pass; else what the command says
  bool no_centring = false;
  bool no_calibration = false;  // the model's calibrated key transforms are not used
  bool tokens = false;          // sinks and window to the token, the page being filled is no part
  bool simulated = false;       // by the lab's evaluator, see docs/quality.md
  lab::Ideas ideas = {};

  // The page log cannot do without centring, nor count in tokens, nor has it ideas of others: those
  // are simulated anyway.
  bool IsSimulated() const { return simulated || no_centring || tokens || !ideas.empty(); }
  // As forks of llama.cpp have it: every cure off.
  bool IsBare() const;
  std::string Name() const;  // "turbo4 / turbo3 +window=0"
  bool operator==(const CompareType&) const = default;
};

std::string CompareOptions();  // "window=N, ...": all there are, for help and errors

// Items separated by commas where they name no layers or ages ("q8_0,turbo4/turbo3"); an item with
// such stands alone ("turbo4:0-3,q8_0:4-29/turbo3", "turbo4+age=512:turbo3,1024:turbo2"). Each
// once. Throws kInvalidArgument naming the column.
std::vector<CompareType> ParseCompareTypes(const std::vector<std::string>& words);

}  // namespace tq::app
