// SPDX-License-Identifier: Apache-2.0
// The closed list of decode kernels. Instances of fixed pairs exist for the head dims that models
// of today have; AnyPair for every other pair and head dim. One .cu file per line, so that they
// compile side by side.
#pragma once

#include "turboquant/attention/cuda/decode_params.h"

namespace tq::cuda {

using DecodeKernelFn = void (*)(DecodeParams);

// Null if there is no such instance. sets: 1, 2, 4 or 8.
DecodeKernelFn Turbo8Kernel(int head_dim, int sets);
DecodeKernelFn Turbo4Kernel(int head_dim, int sets);
DecodeKernelFn Turbo3Kernel(int head_dim, int sets);
DecodeKernelFn Turbo2Kernel(int head_dim, int sets);
DecodeKernelFn Turbo3TcqKernel(int head_dim, int sets);
DecodeKernelFn Turbo43TcqKernel(int head_dim, int sets);  // K turbo4_tcq, V turbo3_tcq: the default
// What comes behind all of them (merge_heads.cuh).
DecodeKernelFn HeadMerger(int head_dim, bool ages);
DecodeKernelFn AnyKernel64(int sets);
DecodeKernelFn AnyKernel80(int sets);
DecodeKernelFn AnyKernel96(int sets);
DecodeKernelFn AnyKernel112(int sets);
DecodeKernelFn AnyKernel128(int sets);
DecodeKernelFn AnyKernel192(int sets);
DecodeKernelFn AnyKernel256(int sets);
DecodeKernelFn AnyKernel512(int sets);
inline DecodeKernelFn AnyKernel(int head_dim, int sets) {
  switch (head_dim) {
    case 64:
      return AnyKernel64(sets);
    case 80:
      return AnyKernel80(sets);
    case 96:
      return AnyKernel96(sets);
    case 112:
      return AnyKernel112(sets);
    case 128:
      return AnyKernel128(sets);
    case 192:
      return AnyKernel192(sets);
    case 256:
      return AnyKernel256(sets);
    case 512:
      return AnyKernel512(sets);
    default:
      return nullptr;
  }
}

// The most column sets that a warp's registers hold.
constexpr int MaxSets(int head_dim) { return head_dim <= 128 ? 4 : head_dim <= 256 ? 2 : 1; }
// Kernels of fixed pairs for more than these are wide (wide_step.cuh): four warps share a step. 0:
// there are none for this head dim. At 64 and 256 they took as long as two groups of warps, and
// half as long again (75 and 468 us for 8 queries of 32 rows over 128K tokens of turbo3, H200).
inline constexpr int kWideWarps = 4;
// Of a wide block besides, one for each run; as many as change their registers together.
inline constexpr int kLoaderWarps = 4;
inline constexpr int kMostWideRuns = kMostDecodeWarps / kWideWarps;
static_assert(kMostWideRuns <= kLoaderWarps);
constexpr int WideSets(int head_dim) { return head_dim == 128 ? 8 : 0; }
constexpr bool IsWide(int head_dim, int sets) { return sets > MaxSets(head_dim); }
// Two steps of open pages must fit into shared memory several times.
constexpr int WideStepTokens(bool open) { return open ? 64 : 128; }
// Warps of a block at most, loaders apart; the kernels ask for registers accordingly. Where
// tiles are large shared memory has no buffers for more.
constexpr int MaxWarps(int head_dim, int sets) {
  const bool small = MakeTileLayout(head_dim).tokens * head_dim <= 4096;
  return IsWide(head_dim, sets) || (small && sets * head_dim <= 256) ? kMostDecodeWarps : 8;
}
constexpr int LoaderWarps(int head_dim, int sets) {
  return IsWide(head_dim, sets) ? kLoaderWarps : 0;
}

}  // namespace tq::cuda
