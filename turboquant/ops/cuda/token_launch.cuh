// SPDX-License-Identifier: Apache-2.0
// Launches of what works on the tokens of a step.
#pragma once

#include "turboquant/base/cuda/chained_launch.cuh"

namespace tq::cuda {

// Kernels of a step of one or two tokens follow each other closely, but none starts on a
// multiprocessor that has to be divided anew for it before those there have ended. So norms,
// activations and rotary positions want the same as products: the more cache, the more weights are
// on their way. With no wish a step of one token of the 8B shape took 1750 us, with 0, 4, 8, 15 and
// 30 % 1667, 1657, 1704, 1740 and 1935; of two tokens 2100, and 1985 with 4 %. Of four tokens it
// made no difference, and products of eight keep weights in shared memory: 2.5 % longer with it.
inline constexpr int kMostWishingTokens = 2, kFewTokensShared = 4;

template <typename... Params, typename... Args>
void LaunchForTokens(int64_t tokens, void (*kernel)(Params...), dim3 grid, unsigned threads,
                     cudaStream_t stream, Args... args) {
  LaunchChainedAs({.grid = grid,
                   .threads = threads,
                   .shared_percent = tokens <= kMostWishingTokens ? kFewTokensShared : kAnyShared},
                  kernel, stream, args...);
}

}  // namespace tq::cuda
