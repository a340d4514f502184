// SPDX-License-Identifier: Apache-2.0
#include "turboquant/attention/cuda/decode_select.cuh"

namespace tq::cuda {

DecodeKernelFn AnyKernelSmall(int head_dim, int sets) {
  return SelectKernel<AnyPair, 64, 80, 96>(head_dim, sets);
}

}  // namespace tq::cuda
