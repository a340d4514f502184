// SPDX-License-Identifier: Apache-2.0
#include "turboquant/model/architectures.h"

#include <array>

namespace tq {
namespace {

constexpr std::array kArchitectures = {
    //           name      rope                     activation             qk_norm post  scales
    //           local
    Architecture{"llama", RopeStyle::kInterleaved, Activation::kSilu, false, false, false, 0},
    Architecture{"qwen2", RopeStyle::kHalves, Activation::kSilu, false, false, false, 0},
    Architecture{"qwen3", RopeStyle::kHalves, Activation::kSilu, true, false, false, 0},
    Architecture{"gemma3", RopeStyle::kHalves, Activation::kGeluTanh, true, true, true, 5},
};

}  // namespace

std::string ArchitectureNames() {
  std::string names;
  for (const Architecture& architecture : kArchitectures) {
    if (!names.empty()) names += ", ";
    names += architecture.name;
  }
  return names;
}

const Architecture& FindArchitecture(std::string_view name) {
  for (const Architecture& architecture : kArchitectures) {
    if (architecture.name == name) return architecture;
  }
  Throw(ErrorCode::kUnsupported, "models of architecture '{}' are not run; these are: {}", name,
        ArchitectureNames());
}

}  // namespace tq
