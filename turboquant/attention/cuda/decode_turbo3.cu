// SPDX-License-Identifier: Apache-2.0
#include "turboquant/attention/cuda/decode_select.cuh"

namespace tq::cuda {

DecodeKernelFn Turbo3Kernel(int head_dim, int sets) {
  return SelectKernel<FixedPair<Turbo3, Turbo3>, 64, 128, 256>(head_dim, sets);
}

}  // namespace tq::cuda
