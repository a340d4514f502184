// SPDX-License-Identifier: Apache-2.0
#include "turboquant/attention/cuda/decode_select.cuh"

namespace tq::cuda {

DecodeKernelFn AnyKernelLarge(int head_dim, int sets) {
  return SelectKernel<AnyPair, 256, 512>(head_dim, sets);
}

}  // namespace tq::cuda
