// SPDX-License-Identifier: Apache-2.0
// Speed of prompts and of decoding, at a depth that is really filled: what llama-bench measures, in
// its formats.
#pragma once

#include <functional>
#include <memory>

#include "lab/bench_result.h"
#include "turboquant/engine/session.h"

namespace tq::lab {

struct BenchOptions {
  int repetitions = 5;
  bool warm_up = true;
  SessionOptions session;  // cache policy of this case; context is set here
  // Before each repetition, and often while one runs: may throw Error(kCancelled).
  std::function<void(int done, int of)> on_progress;
};
BenchResult RunBench(std::shared_ptr<const Engine> engine, const BenchCase& test,
                     const BenchOptions& options);

}  // namespace tq::lab
