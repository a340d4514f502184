// SPDX-License-Identifier: Apache-2.0
// Models of a known shape with random weights, for timing where the real files cannot be had: the
// text is noise, the work is the same.
#pragma once

#include <string>
#include <string_view>

#include "turboquant/backend/backend.h"
#include "turboquant/model/model_spec.h"
#include "turboquant/model/weights.h"

namespace tq {

// "llama-8b" (Llama-3.1-8B), "llama-1b" (Llama-3.2-1B). Throws kInvalidArgument listing them.
ModelSpec SyntheticModelSpec(std::string_view name);
std::string SyntheticModelNames();

// Bytes of its weights at 4 bits (the layout of Q4_0: 4.5 bits per weight).
uint64_t SyntheticWeightBytes(const ModelSpec& spec);

// Matrices are filled where they are used, by the backend; norms are ones.
Weights MakeSyntheticWeights(const ModelSpec& spec, Backend& backend);

}  // namespace tq
