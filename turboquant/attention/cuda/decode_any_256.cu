// SPDX-License-Identifier: Apache-2.0
#include "turboquant/attention/cuda/decode_select.cuh"

namespace tq::cuda {

DecodeKernelFn AnyKernel256(int sets) { return SelectKernel<AnyPair, 256>(256, sets); }

}  // namespace tq::cuda
