// SPDX-License-Identifier: Apache-2.0
// The text that models are calibrated on unless another is named: prose, code, dialogue, numbers,
// in several languages, written for this purpose.
#pragma once

#include <cstdint>
#include <string_view>

namespace tq {

std::string_view CalibrationText();

// What stands for a text in a calibration. Empty: the text above.
uint64_t CalibrationTextHash(std::string_view text);

}  // namespace tq
