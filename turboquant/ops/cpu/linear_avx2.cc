// SPDX-License-Identifier: Apache-2.0
#ifndef TQ_UNROLL
#define TQ_UNROLL _Pragma("GCC unroll 16")
#endif

#include "turboquant/ops/cpu/linear_kernels.h"
#include "turboquant/ops/cpu/linear_vec_avx2.h"

namespace tq::avx2 {
namespace {
#include "turboquant/ops/cpu/linear_body.inc"
#include "turboquant/ops/cpu/linear_float_body.inc"
}  // namespace
constinit const LinearKernels kLinearKernels = MakeLinearKernels();
}  // namespace tq::avx2
