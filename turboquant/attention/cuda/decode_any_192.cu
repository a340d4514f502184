// SPDX-License-Identifier: Apache-2.0
#include "turboquant/attention/cuda/decode_select.cuh"

namespace tq::cuda {

DecodeKernelFn AnyKernel192(int sets) { return SelectKernel<AnyPair, 192>(192, sets); }

}  // namespace tq::cuda
