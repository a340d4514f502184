// SPDX-License-Identifier: Apache-2.0
// f32 products of up to 8 tokens with weights of floats.
#pragma once

#include <cuda_runtime_api.h>

namespace tq::cuda {

struct MatVecParams;

// False if the layout is quantised. threads: of a block, whole warps.
bool LaunchFloatMatVec(int layout, const MatVecParams& params, unsigned panels, unsigned threads,
                       cudaStream_t stream);

}  // namespace tq::cuda
