// SPDX-License-Identifier: Apache-2.0
// Some of the decode kernels as host code: enough for every path, few enough to compile in a
// moment.
#include "turboquant/attention/cuda/decode_select.cuh"
#include "turboquant/attention/cuda/merge_heads.cu"

namespace tq::cuda {

DecodeKernelFn Turbo8Kernel(int head_dim, int sets) {
  return SelectKernel<OpenPair, 128>(head_dim, sets);
}
DecodeKernelFn Turbo4Kernel(int head_dim, int sets) {
  return sets == 8 ? SelectKernel<FixedPair<Turbo4, Turbo4>, 128>(head_dim, sets) : nullptr;
}
DecodeKernelFn Turbo3Kernel(int head_dim, int sets) {
  return SelectKernel<FixedPair<Turbo3, Turbo3>, 128>(head_dim, sets);
}
DecodeKernelFn Turbo2Kernel(int, int) { return nullptr; }
DecodeKernelFn Turbo3TcqKernel(int, int) { return nullptr; }
DecodeKernelFn Turbo43TcqKernel(int head_dim, int sets) {
  return sets == 8 ? SelectKernel<FixedPair<Turbo4Tcq, Turbo3Tcq>, 128>(head_dim, sets) : nullptr;
}
DecodeKernelFn AnyKernel64(int) { return nullptr; }
DecodeKernelFn AnyKernel80(int sets) { return SelectKernel<AnyPair, 80>(80, sets); }
DecodeKernelFn AnyKernel96(int) { return nullptr; }
DecodeKernelFn AnyKernel112(int) { return nullptr; }
DecodeKernelFn AnyKernel128(int sets) { return SelectKernel<AnyPair, 128>(128, sets); }
DecodeKernelFn AnyKernel192(int) { return nullptr; }
DecodeKernelFn AnyKernel256(int) { return nullptr; }
DecodeKernelFn AnyKernel512(int) { return nullptr; }

}  // namespace tq::cuda
