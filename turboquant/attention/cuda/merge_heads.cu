// SPDX-License-Identifier: Apache-2.0
#include "turboquant/attention/cuda/merge_heads.cuh"

#include "turboquant/attention/cuda/decode_instances.h"

namespace tq::cuda {

DecodeKernelFn HeadMerger() { return MergeHeadsKernel<128>; }

}  // namespace tq::cuda
