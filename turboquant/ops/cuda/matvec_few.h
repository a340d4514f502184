// SPDX-License-Identifier: Apache-2.0
// 8-bit products of 5 to 8 tokens with quantised weights: records of 8 places.
#pragma once

#include <cuda_runtime_api.h>

namespace tq::cuda {

struct MatVecParams;

// False if the layout is not quantised.
bool LaunchFewTokensMatVec(int layout, const MatVecParams& params, cudaStream_t stream);

}  // namespace tq::cuda
