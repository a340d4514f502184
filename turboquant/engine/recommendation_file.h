// SPDX-License-Identifier: Apache-2.0
// What `turboquant recommend` found for a model and a context, kept in a folder: one small text
// file per model and context, with a version and a checksum. `--cache auto` reads it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "turboquant/kv/policy.h"

namespace tq {

struct Recommendation {
  uint64_t model_id = 0;  // Engine::model_id()
  int64_t context = 0;
  CachePolicy policy;
  double divergence = 0;  // expected, on text like that measured on
  double upper = 0;       // its upper 95 % limit
  uint64_t bytes = 0;     // of the cache at that context
  uint64_t text_id = 0;   // Hash64 of the tokens measured on
  bool operator==(const Recommendation&) const = default;
};

std::string RecommendationText(const Recommendation& recommendation);
// Throws kCorruptFile (what is wrong; the caller says which file) or kUnsupported (another version,
// a cache type that this build lacks).
Recommendation ParseRecommendation(std::string_view text);

// Written beside its target and renamed; the folder is made. Returns where it lies. Throws kIo.
std::filesystem::path SaveRecommendation(const std::filesystem::path& folder,
                                         const Recommendation& recommendation);

// The one for the smallest context of at least `context` tokens: in a shorter one the policy takes
// less memory and compresses a smaller part. Nothing if there is none. Throws as Parse does, naming
// the file, if that one cannot be read.
std::optional<Recommendation> FindRecommendation(const std::filesystem::path& folder,
                                                 uint64_t model_id, int64_t context);

}  // namespace tq
