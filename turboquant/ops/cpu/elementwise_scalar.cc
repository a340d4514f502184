// SPDX-License-Identifier: Apache-2.0
#include <stddef.h>

#include "turboquant/ops/cpu/elementwise_kernels.h"

#define TQ_LANES_4
namespace tq::scalar {
namespace {
constexpr int kLanes = 4;
#include "turboquant/ops/cpu/elementwise_body.inc"
}  // namespace
const ElementwiseKernels kElementwiseKernels = MakeKernels();
}  // namespace tq::scalar
