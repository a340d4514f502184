// SPDX-License-Identifier: Apache-2.0
#include "turboquant/attention/cuda/decode_instances.h"
#include "turboquant/attention/cuda/merge_heads.cuh"
#include "turboquant/codec/cuda/head_dims.h"

namespace tq::cuda {

DecodeKernelFn HeadMerger(int head_dim, bool ages) {
  return ForHeadDim<DecodeKernelFn>(head_dim, [&]<int kDim>() {
    return ages ? MergeHeadsKernel<kDim, true> : MergeHeadsKernel<kDim, false>;
  });
}

}  // namespace tq::cuda
