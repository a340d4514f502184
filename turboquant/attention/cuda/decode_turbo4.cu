// SPDX-License-Identifier: Apache-2.0
#include "turboquant/attention/cuda/decode_select.cuh"

namespace tq::cuda {

DecodeKernelFn Turbo4Kernel(int head_dim, int sets) {
  return SelectKernel<FixedPair<Turbo4, Turbo4>, 64, 128, 256>(head_dim, sets);
}

}  // namespace tq::cuda
