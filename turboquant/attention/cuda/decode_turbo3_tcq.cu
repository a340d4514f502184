// SPDX-License-Identifier: Apache-2.0
#include "turboquant/attention/cuda/decode_select.cuh"

namespace tq::cuda {

DecodeKernelFn Turbo3TcqKernel(int head_dim, int sets) {
  return SelectKernel<FixedPair<Turbo3Tcq, Turbo3Tcq>, 64, 128, 256>(head_dim, sets);
}

}  // namespace tq::cuda
