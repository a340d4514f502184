// SPDX-License-Identifier: Apache-2.0
// 8-bit products of one token with weights of 4-bit codes: the layouts that most models have.
#pragma once

#include <cuda_runtime_api.h>

namespace tq::cuda {

struct MatVecParams;

// False if the layout's codes are not of 4 bits. threads: of a block, whole warps. Without records
// x is quantised on the way.
bool LaunchNibbleMatVec(int layout, const MatVecParams& params, unsigned panels, unsigned threads,
                        cudaStream_t stream);

}  // namespace tq::cuda
