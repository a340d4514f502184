// SPDX-License-Identifier: Apache-2.0
// The closed list of architectures: how each sets the flags of ModelSpec.
#pragma once

#include <string_view>

#include "turboquant/model/model_spec.h"

namespace tq {

struct Architecture {
  std::string_view name;  // general.architecture
  RopeStyle rope_style;
  Activation activation;
  bool qk_norm;
  bool post_norms;
  bool scales_embedding;  // by sqrt(E)
  int local_layers;       // sliding-window layers before each global one; 0 = all global
};

// Throws kUnsupported listing what there is.
const Architecture& FindArchitecture(std::string_view name);

}  // namespace tq
