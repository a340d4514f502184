// SPDX-License-Identifier: Apache-2.0
// GCC 12 takes the undefined operand inside its own AVX-512 intrinsics for an uninitialised
// variable.
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#ifndef TQ_UNROLL
#define TQ_UNROLL _Pragma("GCC unroll 16")
#endif

#include "turboquant/ops/cpu/linear_kernels.h"
#include "turboquant/ops/cpu/linear_vec_avx512.h"

namespace tq::avx512 {
namespace {
#include "turboquant/ops/cpu/linear_body.inc"
#include "turboquant/ops/cpu/linear_dense_avx512.inc"
#define TQ_DENSE_PANELS
#include "turboquant/ops/cpu/linear_float_body.inc"
}  // namespace
constinit const LinearKernels kLinearKernels = MakeLinearKernels();
}  // namespace tq::avx512
