// SPDX-License-Identifier: Apache-2.0
// What a page tells of the channels of a head.
#pragma once

#include <vector>

#include "turboquant/base/matrix_view.h"

namespace tq::lab {

// Means [D] of rows [n][D]; zero if there are none.
std::vector<float> ChannelMeans(MatrixView<const float> rows);

// Factors [D] that make channels more alike before a key is coded, and by which it is divided
// afterwards (in a product: queries multiplied): clamp((mean rms / rms_i)^0.2, 1/2, 2), the
// per-channel scaling of InnerQ (arXiv 2602.23200) with the exponent of spiritbuun/buun-llama-cpp,
// but per head. `reference` [D] is subtracted before the rms is taken (null: nothing is).
//
// Keys only. For them the inverse is free: queries take it. Values would need it on every output;
// the fork scales them without, which changes the model and says nothing of the coding.
std::vector<float> ChannelScales(MatrixView<const float> rows, const float* reference);

}  // namespace tq::lab
