// SPDX-License-Identifier: Apache-2.0
#include "turboquant/ops/cpu/linear_kernels.h"
#include "turboquant/ops/cpu/linear_vec_scalar.h"

#ifndef TQ_UNROLL
#define TQ_UNROLL _Pragma("GCC unroll 1")
#endif

namespace tq::scalar {
namespace {
#include "turboquant/ops/cpu/linear_body.inc"
#include "turboquant/ops/cpu/linear_float_body.inc"
}  // namespace
constinit const LinearKernels kLinearKernels = MakeLinearKernels();
}  // namespace tq::scalar
