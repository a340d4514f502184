// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "turboquant/attention/cuda/decode_instances.h"
#include "turboquant/attention/cuda/decode_kernel.cuh"
#include "turboquant/attention/cuda/wide_kernel.cuh"

namespace tq::cuda {

template <class Pair, int kDim, int kSets>
DecodeKernelFn KernelIf() {
  if constexpr (kSets <= MaxSets(kDim)) {
    return DecodeKernel<kDim, kSets, Pair>;
  } else if constexpr (!Pair::kAges && kSets == WideSets(kDim)) {
    return WideKernel<kDim, kSets, Pair>;
  } else {
    return nullptr;
  }
}

// The kernel of a pair among those instantiated for kDims.
template <class Pair, int... kDims>
DecodeKernelFn SelectKernel(int head_dim, int sets) {
  DecodeKernelFn kernel = nullptr;
  const auto consider = [&]<int kDim>() {
    if (head_dim != kDim) return;
    kernel = sets == 1   ? KernelIf<Pair, kDim, 1>()
             : sets == 2 ? KernelIf<Pair, kDim, 2>()
             : sets == 4 ? KernelIf<Pair, kDim, 4>()
                         : KernelIf<Pair, kDim, 8>();
  };
  (consider.template operator()<kDims>(), ...);
  return kernel;
}

}  // namespace tq::cuda
