// SPDX-License-Identifier: Apache-2.0
#include "turboquant/attention/cuda/decode_select.cuh"

namespace tq::cuda {

DecodeKernelFn AnyKernel112(int sets) { return SelectKernel<AnyPair, 112>(112, sets); }

}  // namespace tq::cuda
