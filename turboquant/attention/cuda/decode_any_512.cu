// SPDX-License-Identifier: Apache-2.0
#include "turboquant/attention/cuda/decode_select.cuh"

namespace tq::cuda {

DecodeKernelFn AnyKernel512(int sets) { return SelectKernel<AnyPair, 512>(512, sets); }

}  // namespace tq::cuda
