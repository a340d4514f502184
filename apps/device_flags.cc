// SPDX-License-Identifier: Apache-2.0
#include "apps/device_flags.h"

#include <charconv>

#include "turboquant/base/error.h"

namespace tq::app {

std::string ChooseDevice(const std::string& device, const std::string& gpu_layers, bool cuda_built,
                         const std::function<int()>& num_layers) {
  if (gpu_layers.empty()) return device;
  if (gpu_layers == "0") {
    if (device == "cpu") return device;
    Throw(ErrorCode::kInvalidArgument, "--device {} with --gpu-layers 0: give one of them", device);
  }
  const std::string gpu = device == "cpu" ? "cuda" : device;
  if (gpu_layers == "auto") return cuda_built ? gpu : device;
  if (!cuda_built) {
    Throw(ErrorCode::kInvalidArgument,
          "--gpu-layers {}: this build runs on the CPU only; leave the flag away or give 0, or "
          "build with -DTQ_CUDA=ON",
          gpu_layers);
  }
  if (gpu_layers == "all" || gpu_layers == "-1") return gpu;
  int wanted = 0;
  const auto [end, error] =
      std::from_chars(gpu_layers.data(), gpu_layers.data() + gpu_layers.size(), wanted);
  if (error != std::errc() || end != gpu_layers.data() + gpu_layers.size() || wanted < 0) {
    Throw(ErrorCode::kInvalidArgument, "--gpu-layers {}: give 0, a number of layers, or all",
          gpu_layers);
  }
  const int layers = num_layers();
  if (wanted < layers) {
    Throw(
        ErrorCode::kInvalidArgument,
        "--gpu-layers {}: the model has {} layers, and all of them run on one device: activations "
        "and cache would cross to the CPU and back in every step. Give 0, or {} or more",
        wanted, layers, layers);
  }
  return gpu;
}

}  // namespace tq::app
