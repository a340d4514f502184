// SPDX-License-Identifier: Apache-2.0
// Channels made more alike before a key is coded, and back afterwards (in a product: queries by the
// inverse): channel i times clamp((mean rms / rms_i)^0.2, 1/2, 2), the per-channel scaling of
// InnerQ (arXiv 2602.23200) with the exponent of spiritbuun/buun-llama-cpp, per head.
//
// Keys only. For them the inverse is free: queries take it. Values would need it on every output;
// the fork scales them without, which changes the model and says nothing of the coding.
#pragma once

#include <vector>

#include "turboquant/base/matrix_view.h"

namespace tq::lab {

// Factors [D] for rows [n][D]; `reference` [D] is subtracted before they are measured (null:
// nothing is).
std::vector<float> ChannelScales(MatrixView<const float> rows, const float* reference);

}  // namespace tq::lab
