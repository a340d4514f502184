// SPDX-License-Identifier: Apache-2.0
// The part of prefill_rows.h that has an instance per head dim.
#pragma once

#include "turboquant/attention/cuda/prefill_rows.h"

namespace tq::cuda {

// With rotate_back.
void LaunchMergePartsBack(const MergePartsArgs& args, cudaStream_t stream);

}  // namespace tq::cuda
