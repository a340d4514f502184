// SPDX-License-Identifier: Apache-2.0
#include "turboquant/attention/cuda/decode_select.cuh"

namespace tq::cuda {

DecodeKernelFn AnyKernel80(int sets) { return SelectKernel<AnyPair, 80>(80, sets); }

}  // namespace tq::cuda
