// SPDX-License-Identifier: Apache-2.0
#include "turboquant/attention/cuda/decode_select.cuh"

namespace tq::cuda {

DecodeKernelFn AnyKernel128(int sets) { return SelectKernel<AnyPair, 128>(128, sets); }

}  // namespace tq::cuda
