// SPDX-License-Identifier: Apache-2.0
// From a head dim known when running to kernels instantiated for each of kHeadDims.
#pragma once

#include <cstddef>
#include <utility>

#include "turboquant/codec/codec.h"

namespace tq::cuda {

// fn.operator()<head_dim>() for a head dim of the list, else a default Result.
template <typename Result, typename Fn>
Result ForHeadDim(int head_dim, const Fn& fn) {
  Result result = {};
  const auto consider = [&]<size_t... kIndices>(std::index_sequence<kIndices...>) {
    ((head_dim == kHeadDims[kIndices]
          ? static_cast<void>(result = fn.template operator()<kHeadDims[kIndices]>())
          : static_cast<void>(0)),
     ...);
  };
  consider(std::make_index_sequence<kHeadDims.size()>());
  return result;
}

}  // namespace tq::cuda
