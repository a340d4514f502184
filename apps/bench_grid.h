// SPDX-License-Identifier: Apache-2.0
// The tests that bench's list flags stand for.
#pragma once

#include <string>
#include <vector>

#include "lab/bench_result.h"

namespace tq::app {

// "512,1024", "1-4", "128-512+128", "1-64*4" as llama-bench reads them. Throws kInvalidArgument
// naming the piece.
std::vector<int> ParseIntList(const std::string& text, const std::string& flag);

struct BenchLists {
  std::string prompt = "512", gen = "128", depth = "0", batch = "2048", ubatch = "512";
  std::vector<std::string> prompt_gen;  // "pp,tg"
  std::vector<std::string> types_k, types_v;
};
std::vector<lab::BenchCase> BenchGrid(const BenchLists& lists);

}  // namespace tq::app
