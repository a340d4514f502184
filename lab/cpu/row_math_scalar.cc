// SPDX-License-Identifier: Apache-2.0
#include "lab/row_math.h"

namespace tq::lab::scalar {
#include "lab/cpu/row_math.inl"
}  // namespace tq::lab::scalar
