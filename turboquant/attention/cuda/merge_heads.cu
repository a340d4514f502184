// SPDX-License-Identifier: Apache-2.0
#include "turboquant/attention/cuda/merge_heads.cuh"

namespace tq::cuda {

DecodeKernelFn HeadMerger(int head_dim, bool ages) {
  return SelectMerger<64, 80, 96, 112, 128, 192, 256, 512>(head_dim, ages);
}

}  // namespace tq::cuda
