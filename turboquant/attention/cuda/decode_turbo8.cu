// SPDX-License-Identifier: Apache-2.0
#include "turboquant/attention/cuda/decode_select.cuh"

namespace tq::cuda {

DecodeKernelFn Turbo8Kernel(int head_dim, int sets) {
  return SelectKernel<OpenPair, 64, 128, 256>(head_dim, sets);
}

}  // namespace tq::cuda
