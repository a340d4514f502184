// SPDX-License-Identifier: Apache-2.0
// Launches of what works on the tokens of a step.
#pragma once

#include "turboquant/base/cuda/chained_launch.cuh"

namespace tq::cuda {

// Kernels of one token's step follow each other closely, but none starts on a multiprocessor that
// has to be divided anew for it before those there have ended. So norms, activations and
// rotary positions want the same as its products: the more cache, the more weights are on their
// way. With no wish a step of the 8B shape took 1750 us, with 0, 4, 8, 15 and 30 % 1667, 1657,
// 1704, 1740 and 1935. Products of few tokens keep weights in shared memory: with the wish 8 tokens
// took 2.5 % longer, 2 tokens 6 %.
inline constexpr int kOneTokenShared = 4;

template <typename... Params, typename... Args>
void LaunchForTokens(int64_t tokens, void (*kernel)(Params...), dim3 grid, unsigned threads,
                     cudaStream_t stream, Args... args) {
  LaunchChainedAs({.grid = grid,
                   .threads = threads,
                   .shared_percent = tokens <= 2 ? kOneTokenShared : kAnyShared},
                  kernel, stream, args...);
}

}  // namespace tq::cuda
