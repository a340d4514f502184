// SPDX-License-Identifier: Apache-2.0
#include "lab/row_math.h"

namespace tq::lab::avx512 {
#include "lab/cpu/row_math.inl"
}  // namespace tq::lab::avx512
