// SPDX-License-Identifier: Apache-2.0
#include "turboquant/attention/cuda/decode_select.cuh"

namespace tq::cuda {

DecodeKernelFn Turbo2Kernel(int head_dim, int sets) {
  return SelectKernel<FixedPair<Turbo2, Turbo2>, 64, 128, 256>(head_dim, sets);
}

}  // namespace tq::cuda
