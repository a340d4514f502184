// SPDX-License-Identifier: Apache-2.0
// From --device and --gpu-layers to the one device that a model runs on.
#pragma once

#include <functional>
#include <string>

namespace tq::app {

// gpu_layers: empty (not given), "0", "all", "auto", -1 or a number of layers, as llama.cpp's users
// write it. A model runs on one device as a whole: fewer layers than it has are refused.
// num_layers is asked only where it matters.
std::string ChooseDevice(const std::string& device, const std::string& gpu_layers, bool cuda_built,
                         const std::function<int()>& num_layers);

}  // namespace tq::app
