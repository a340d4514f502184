// SPDX-License-Identifier: Apache-2.0
#include "turboquant/attention/cuda/decode_select.cuh"

namespace tq::cuda {

DecodeKernelFn AnyKernelMedium(int head_dim, int sets) {
  return SelectKernel<AnyPair, 112, 128, 192>(head_dim, sets);
}

}  // namespace tq::cuda
