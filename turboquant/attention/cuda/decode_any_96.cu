// SPDX-License-Identifier: Apache-2.0
#include "turboquant/attention/cuda/decode_select.cuh"

namespace tq::cuda {

DecodeKernelFn AnyKernel96(int sets) { return SelectKernel<AnyPair, 96>(96, sets); }

}  // namespace tq::cuda
