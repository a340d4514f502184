// SPDX-License-Identifier: Apache-2.0
#include <stddef.h>

#include "turboquant/ops/cpu/elementwise_kernels.h"

#define TQ_LANES_16
namespace tq::avx512 {
namespace {
constexpr int kLanes = 16;
#include "turboquant/ops/cpu/elementwise_body.inc"
}  // namespace
const ElementwiseKernels kElementwiseKernels = MakeKernels();
}  // namespace tq::avx512
