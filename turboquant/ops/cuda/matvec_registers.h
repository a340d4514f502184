// SPDX-License-Identifier: Apache-2.0
// 8-bit products of few tokens whose weights go from memory to registers at once.
#pragma once

#include <cuda_runtime_api.h>

namespace tq::cuda {

struct MatVecParams;

// False if the product had better go another way (matvec_few.h), or the layout is not quantised.
// threads: of a block, whole warps. Without records x is one token, quantised on the way.
bool LaunchRegisterMatVec(int layout, const MatVecParams& params, unsigned panels, unsigned threads,
                          cudaStream_t stream);

}  // namespace tq::cuda
