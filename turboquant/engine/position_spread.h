// SPDX-License-Identifier: Apache-2.0
// Rotary embedding turns a key by its position, so the directions in which keys vary turn along the
// context. A calibration text is shorter than a context: its moments are spread over positions that
// it does not reach.
#pragma once

#include <span>

#include "turboquant/ops/elementwise.h"

namespace tq {

// moment [D][D] of vectors at some positions -> the mean of R_d moment R_d^T over 64 distances d in
// [0, range]: the moment of the same vectors that far further on. Its trace stays.
void SpreadOverPositions(const RopeTable& rope, int range, int head_dim, std::span<double> moment);

}  // namespace tq
