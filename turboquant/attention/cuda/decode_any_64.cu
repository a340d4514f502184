// SPDX-License-Identifier: Apache-2.0
#include "turboquant/attention/cuda/decode_select.cuh"

namespace tq::cuda {

DecodeKernelFn AnyKernel64(int sets) { return SelectKernel<AnyPair, 64>(64, sets); }

}  // namespace tq::cuda
