// SPDX-License-Identifier: Apache-2.0
// `--cache auto`: the policy that `turboquant recommend` stored for this model.
#pragma once

#include <filesystem>

#include "apps/common_flags.h"

namespace tq::app {

inline constexpr const char* kAutomaticCache = "auto";

std::filesystem::path RecommendationFolder();  // beside the models: fetch_model/model_table.h

// Says on stderr which recommendation it is. Throws kNotFound, saying what to run, if there is none
// that reaches `context` (0: the model's); kInvalidArgument if flags of the cache's shape ask for
// another one.
CachePolicy AutomaticPolicy(const Engine& engine, const CacheFlags& flags, int64_t context);

}  // namespace tq::app
